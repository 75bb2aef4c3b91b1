// What the Go runtime needs of a kernel: threads on every CPU, its own stacks and signals
// (preemption by SIGURG), the network poller on epoll, timers, a garbage collector that returns
// memory. Prints "go: ok" and exits with 0.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func check(good bool, what string) {
	if !good {
		fmt.Println("go: failed:", what)
		os.Exit(1)
	}
}

func everyCPU() {
	cpus := runtime.NumCPU()
	check(runtime.GOMAXPROCS(0) == cpus, "GOMAXPROCS")
	var group sync.WaitGroup
	var sum int64
	for n := 0; n < 1000; n++ {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			hash := sha256.Sum256([]byte(fmt.Sprint(n)))
			for k := 0; k < 10; k++ {
				hash = sha256.Sum256(hash[:])
				runtime.Gosched()
			}
			atomic.AddInt64(&sum, int64(n))
		}(n)
	}
	group.Wait()
	check(sum == 499500, "sum of goroutines")
	// Loops that never call anything are preempted by a signal.
	var stop int32
	for n := 0; n < cpus; n++ {
		go func() {
			for atomic.LoadInt32(&stop) == 0 {
			}
		}()
	}
	time.Sleep(50 * time.Millisecond)
	runtime.GC()
	atomic.StoreInt32(&stop, 1)
}

func channels() {
	const stages = 100
	first := make(chan int)
	in := first
	for n := 0; n < stages; n++ {
		out := make(chan int)
		go func(in, out chan int) {
			for v := range in {
				out <- v + 1
			}
			close(out)
		}(in, out)
		in = out
	}
	go func() {
		for n := 0; n < 50; n++ {
			first <- n
		}
		close(first)
	}()
	n := 0
	for v := range in {
		check(v == n+stages, "pipeline")
		n++
	}
	select {
	case <-make(chan int):
		check(false, "select")
	case <-time.After(20 * time.Millisecond):
	}
	ticker := time.NewTicker(2 * time.Millisecond)
	for n := 0; n < 10; n++ {
		<-ticker.C
	}
	ticker.Stop()
}

func memory() {
	var keep [][]byte
	for round := 0; round < 20; round++ {
		for n := 0; n < 100; n++ {
			keep = append(keep, make([]byte, 32<<10))
		}
		if round%5 == 4 {
			keep = nil
			runtime.GC()
		}
	}
	numbers := make([]int, 200000)
	for n := range numbers {
		numbers[n] = (n * 7919) % 200003
	}
	sort.Ints(numbers)
	check(sort.IntsAreSorted(numbers), "sort")
	var deep func(int) int
	deep = func(n int) int {
		if n == 0 {
			return 0
		}
		var block [64]int
		block[n%64] = n
		return deep(n-1) + block[n%64] - n + 1
	}
	check(deep(50000) == 50000, "growing stacks")
}

func files() {
	name := "/tmp/goroutines"
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	for n := 0; n < 10000; n++ {
		fmt.Fprintln(writer, n)
	}
	writer.Close()
	check(os.WriteFile(name, packed.Bytes(), 0o644) == nil, "write")
	file, err := os.Open(name)
	check(err == nil, "open")
	reader, err := gzip.NewReader(file)
	check(err == nil, "gzip")
	text, err := io.ReadAll(reader)
	check(err == nil && len(text) == 48890, "unpack")
	os.Remove(name)
	// A pipe goes through the network poller.
	r, w, err := os.Pipe()
	check(err == nil, "pipe")
	go func() {
		time.Sleep(10 * time.Millisecond)
		w.Write([]byte("through epoll"))
		w.Close()
	}()
	text, _ = io.ReadAll(r)
	check(string(text) == "through epoll", "epoll")
	check(r.SetReadDeadline(time.Now().Add(time.Millisecond)) == nil, "deadline")
}

func processes() {
	notify := make(chan os.Signal, 1)
	signal.Notify(notify, syscall.SIGUSR1)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	check(<-notify == syscall.SIGUSR1, "signal")
	var group sync.WaitGroup
	for n := 0; n < 8; n++ {
		group.Add(1)
		go func() {
			defer group.Done()
			out, err := exec.Command("/proc/self/exe", "child").Output()
			check(err == nil && string(out) == "child", "exec")
		}()
	}
	group.Wait()
	func() {
		defer func() { check(recover() != nil, "nil dereference") }()
		var nothing *int
		*nothing = 1
	}()
}

func main() {
	if len(os.Args) > 1 {
		fmt.Print("child")
		return
	}
	everyCPU()
	channels()
	memory()
	files()
	processes()
	fmt.Println("go: ok")
}
