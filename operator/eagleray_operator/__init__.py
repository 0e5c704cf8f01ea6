"""The operator: turns TrainingJob and ModelDeployment resources into Ray clusters through KubeRay."""
