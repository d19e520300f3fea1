// What runs in small test pods, and holds the sandbox of every pod: one static program, so that an image is one file.
//
//	pause            waits for SIGTERM, then ends with 143
//	exit CODE        ends with the code
//	eat MEBIBYTES    touches that much memory, then waits
//	checkpoint SECS  on SIGTERM works for SECS, then ends with 143
//	stubborn         ignores SIGTERM
//	write MEBIBYTES FILE  writes that much to a file, then waits
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	command := "pause"
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM, syscall.SIGINT)
	fmt.Println("started", command)
	switch command {
	case "pause":
	case "exit":
		os.Exit(number(2))
	case "eat":
		memory := make([]byte, number(2)<<20)
		for at := 0; at < len(memory); at += 4096 {
			memory[at] = 1
		}
		fmt.Println("ate", len(memory))
	case "checkpoint":
		<-asked
		fmt.Println("writing a checkpoint")
		time.Sleep(time.Duration(number(2)) * time.Second)
		fmt.Println("wrote a checkpoint")
		os.Exit(143)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	case "write":
		file, err := os.Create(os.Args[3])
		if err != nil {
			panic(err)
		}
		block := make([]byte, 1<<20)
		for count := number(2); count > 0; count-- {
			if _, err := file.Write(block); err != nil {
				panic(err)
			}
		}
	default:
		fmt.Fprintln(os.Stderr, "unknown command", command)
		os.Exit(64)
	}
	<-asked
	// As a worker that was stopped does. Ending with 0 would turn an eviction into a success.
	os.Exit(143)
}

func number(position int) int {
	value, err := strconv.Atoi(os.Args[position])
	if err != nil {
		panic(err)
	}
	return value
}
