// Command coredns is CoreDNS with the plugins that the node's configuration names and no others.
//
// All of CoreDNS brings the SDKs of several clouds, which take minutes to compile and are never asked.
package main

import (
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	coremain.Run()
}
