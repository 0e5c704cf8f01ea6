{{/* Name of the chart. */}}
{{- define "eagleray.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Name that every object starts with: short enough for the longest suffix. */}}
{{- define "eagleray.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "eagleray.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the operator's pods. */}}
{{- define "eagleray.selector" -}}
app.kubernetes.io/name: {{ include "eagleray.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* Labels of every object. */}}
{{- define "eagleray.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "eagleray.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: eagleray
{{- end -}}

{{- define "eagleray.serviceAccount" -}}
{{- default (include "eagleray.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "eagleray.keySecret" -}}
{{- default (printf "%s-key" (include "eagleray.fullname" .)) .Values.key.existingSecret -}}
{{- end -}}

{{- define "eagleray.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- .Values.image.repository }}{{ ternary "@" ":" (hasPrefix "sha256:" $tag) }}{{ $tag -}}
{{- end -}}

{{/* The operator's settings.json (eagleray_operator/settings.py). */}}
{{- define "eagleray.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- $network := $settings.network -}}
{{- if not $network.monitoringNamespace -}}{{- $_ := unset $network "monitoringNamespace" -}}{{- end -}}
{{- $_ := set $settings "namespace" .Release.Namespace -}}
{{- $_ := set $settings "rayVersion" .Values.runtime.rayVersion -}}
{{- $_ := set $settings "reportsUrl" (printf "http://%s-reports.%s.svc:8081/v1/reports" (include "eagleray.fullname" .) .Release.Namespace) -}}
{{- $_ := set $settings "keyPath" "/etc/eagleray/key/key" -}}
{{- $images := .Values.runtime.images -}}
{{- $_ := set $settings "images" (dict
      "numpy" (default (printf "eagleray/runtime:%s" .Chart.AppVersion) $images.numpy)
      "torch" (default (printf "eagleray/runtime:%s-torch" .Chart.AppVersion) $images.torch)
      "pullPolicy" $images.pullPolicy) -}}
{{- with .Values.modelStore -}}
{{- if .uri -}}
{{- $store := dict "uri" .uri -}}
{{- if .secretName -}}{{- $_ := set $store "secretName" .secretName -}}{{- end -}}
{{- $_ := set $settings "modelStore" $store -}}
{{- end -}}
{{- end -}}
{{- toPrettyJson $settings -}}
{{- end -}}
