// The lab's step-ca: the server of Debian's golang-github-smallstep-certificates-dev, which
// packages the library without its command. Runs the configuration that its only argument names
// until it is told to stop.
package main

import (
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/ca"
	_ "github.com/smallstep/certificates/cas/softcas"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: lab-step-ca CONFIGURATION")
	}
	configuration, err := config.LoadConfiguration(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server, err := ca.New(configuration, ca.WithConfigFile(os.Args[1]))
	if err != nil {
		log.Fatal(err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		if err := server.Stop(); err != nil {
			log.Print(err)
		}
	}()
	if err := server.Run(); err != nil && err.Error() != "http: Server closed" {
		log.Fatal(err)
	}
}
