// Command pause holds the namespaces of a pod open.
//
// It is process 1 of every pod sandbox, so it does two things only: it ends when the runtime asks it to,
// and it lets the kernel reap orphans when containers of the pod share its process namespace.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signal.Ignore(syscall.SIGCHLD)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
