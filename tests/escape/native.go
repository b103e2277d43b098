// The attempts as a Go program makes them: its own system calls, its own threads, nothing of a C library.
package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

var base = os.Getenv("BASE")

func in(name string) string { return filepath.Join(base, name) }

func show(text []byte, err error) error {
	if err == nil {
		fmt.Printf("GOT %s\n", text)
	}
	return err
}

func readAll(file io.Reader, err error) error {
	if err != nil {
		return err
	}
	return show(io.ReadAll(file))
}

func raw(number uintptr, args ...uintptr) (uintptr, error) {
	var a [6]uintptr
	copy(a[:], args)
	result, _, failed := syscall.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	if failed != 0 {
		return 0, failed
	}
	return result, nil
}

func pointer(text string) uintptr {
	bytes, _ := syscall.BytePtrFromString(text)
	return uintptr(unsafe.Pointer(bytes))
}

func done(file *os.File, err error) error {
	if err == nil {
		file.Close()
	}
	return err
}

func only(_ any, err error) error { return err }

// A second thread writes one of two names into the memory that the first one gives to the kernel.
func race(call func(path uintptr) error) error {
	visible, hidden := []byte(in("work/plain")+"\x00"), []byte(in("hidden/secret")+"\x00")
	os.WriteFile(in("work/plain"), []byte("plain"), 0644)
	name := make([]byte, len(hidden)+len(visible))
	var stop sync.WaitGroup
	stop.Add(1)
	end := time.Now().Add(200 * time.Millisecond)
	go func() {
		runtime.LockOSThread()
		defer stop.Done()
		for time.Now().Before(end) {
			copy(name, visible)
			copy(name, hidden)
		}
	}()
	var last error
	for time.Now().Before(end) {
		last = call(uintptr(unsafe.Pointer(&name[0])))
	}
	stop.Wait()
	return last
}

type attempt struct {
	kind, name string
	run        func(target string) error
}

var attempts = []attempt{
	{"read", "go-readfile", func(t string) error { return show(os.ReadFile(t)) }},
	{"read", "go-many-threads", func(t string) error {
		failed := make([]error, 16)
		var wait sync.WaitGroup
		for i := range failed {
			wait.Add(1)
			go func(i int) {
				defer wait.Done()
				runtime.LockOSThread()
				failed[i] = show(os.ReadFile(t))
			}(i)
		}
		wait.Wait()
		return failed[0]
	}},
	{"read", "go-dirfs", func(string) error { return show(fs.ReadFile(os.DirFS(in("hidden")), "secret")) }},
	{"read", "go-chdir", func(string) error {
		if err := os.Chdir(in("work")); err != nil {
			return err
		}
		return show(os.ReadFile("../hidden/secret"))
	}},
	{"read", "go-symlink", func(t string) error {
		os.Symlink(t, in("work/l"))
		return show(os.ReadFile(in("work/l")))
	}},
	{"read", "go-hard-link", func(t string) error {
		if err := os.Link(t, in("work/h")); err != nil {
			return err
		}
		return show(os.ReadFile(in("work/h")))
	}},
	{"read", "go-rename", func(t string) error {
		if err := os.Rename(t, in("work/r")); err != nil {
			return err
		}
		return show(os.ReadFile(in("work/r")))
	}},
	{"read", "go-walk", func(string) error {
		return filepath.WalkDir(in("hidden"), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			return show(os.ReadFile(path))
		})
	}},
	{"read", "go-proc-root", func(t string) error { return show(os.ReadFile("/proc/self/root" + t)) }},
	{"read", "go-thread-root", func(t string) error { return show(os.ReadFile("/proc/thread-self/root" + t)) }},
	{"read", "go-dirfd", func(string) error {
		dir, err := os.Open(base)
		if err != nil {
			return err
		}
		fd, err := syscall.Openat(int(dir.Fd()), "hidden/secret", syscall.O_RDONLY, 0)
		if err != nil {
			return err
		}
		return readAll(os.NewFile(uintptr(fd), "x"), nil)
	}},
	{"read", "go-raw-open", func(t string) error {
		fd, err := raw(syscall.SYS_OPEN, pointer(t), syscall.O_RDONLY)
		if err != nil {
			return err
		}
		return readAll(os.NewFile(fd, "x"), nil)
	}},
	{"read", "go-mmap", func(t string) error {
		file, err := os.Open(t)
		if err != nil {
			return err
		}
		memory, err := syscall.Mmap(int(file.Fd()), 0, 16, syscall.PROT_READ, syscall.MAP_PRIVATE)
		return show(memory, err)
	}},
	{"read", "go-command", func(t string) error {
		command := exec.Command("/bin/cat", t)
		command.Env = []string{}
		return show(command.Output())
	}},
	{"read", "go-command-in-hidden", func(t string) error {
		command := exec.Command("/bin/cat", "secret")
		command.Dir = in("hidden")
		return show(command.Output())
	}},
	{"read", "go-itself-again", func(t string) error {
		command := exec.Command("/proc/self/exe", "read", "go-readfile", t)
		command.Env = []string{"BASE=" + base}
		return show(command.Output())
	}},
	{"read", "go-program", func(string) error { return show(exec.Command(in("hidden/program")).Output()) }},
	{"read", "go-socket", func(string) error {
		connection, err := net.Dial("unix", in("hidden/socket"))
		return readAll(connection, err)
	}},
	{"read", "go-readlink", func(string) error {
		text, err := os.Readlink(in("hidden/link"))
		return show([]byte(text), err)
	}},
	{"read", "go-namespace", func(t string) error {
		command := exec.Command("/bin/cat", t)
		command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS}
		return show(command.Output())
	}},
	{"read", "go-chroot", func(string) error {
		if err := syscall.Chroot(base); err != nil {
			return err
		}
		return show(os.ReadFile("/hidden/secret"))
	}},
	{"read", "go-traced-child", func(t string) error {
		runtime.LockOSThread()
		command := exec.Command("/bin/cat", t)
		command.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
		command.Stdout = os.Stdout
		if err := command.Start(); err != nil {
			return err
		}
		syscall.PtraceDetach(command.Process.Pid)
		return command.Wait()
	}},
	{"read", "go-race-open", func(string) error {
		return race(func(path uintptr) error {
			fd, err := raw(syscall.SYS_OPENAT, ^uintptr(99), path, syscall.O_RDONLY)
			if err == nil {
				text := make([]byte, 64)
				n, _ := syscall.Read(int(fd), text)
				syscall.Close(int(fd))
				if n > 0 && string(text[:6]) == "secret" {
					show(text[:n], nil)
				}
			}
			return err
		})
	}},

	{"exist", "go-stat", func(t string) error { return only(os.Stat(t)) }},
	{"exist", "go-lstat", func(t string) error { return only(os.Lstat(t)) }},
	{"exist", "go-access", func(t string) error { return syscall.Access(t, 0) }},
	{"exist", "go-chdir", func(t string) error { return os.Chdir(t) }},
	{"exist", "go-create-new", func(t string) error { return done(os.OpenFile(t, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0644)) }},
	{"exist", "go-mkdir", func(t string) error { return os.Mkdir(t, 0755) }},
	{"exist", "go-open-below", func(t string) error { return done(os.Open(t + "/x")) }},
	{"exist", "go-read-dir", func(t string) error { return only(os.ReadDir(t)) }},
	{"exist", "go-remove", func(t string) error { return syscall.Unlink(t) }},
	{"exist", "go-rmdir", func(t string) error { return syscall.Rmdir(t) }},
	{"exist", "go-rename", func(t string) error { return os.Rename(t, in("work/x")) }},
	{"exist", "go-rename-onto", func(t string) error {
		os.WriteFile(in("work/x"), nil, 0644)
		return os.Rename(in("work/x"), t)
	}},
	{"exist", "go-link", func(t string) error { return os.Link(t, in("work/x")) }},
	{"exist", "go-truncate", func(t string) error { return os.Truncate(t, 0) }},
	{"exist", "go-chmod", func(t string) error { return os.Chmod(t, 0644) }},
	{"exist", "go-chtimes", func(t string) error { return os.Chtimes(t, time.Now(), time.Now()) }},
	{"exist", "go-readlink", func(t string) error { return only(os.Readlink(t)) }},
	{"exist", "go-exec", func(t string) error { return syscall.Exec(t, []string{t}, nil) }},
	{"exist", "go-look-path", func(t string) error { return only(exec.LookPath(t)) }},
	{"exist", "go-dial", func(t string) error { return only(net.Dial("unix", t)) }},
	{"exist", "go-listen", func(t string) error { return only(net.Listen("unix", t)) }},
	{"exist", "go-statfs", func(t string) error { return syscall.Statfs(t, new(syscall.Statfs_t)) }},
	{"exist", "go-getxattr", func(t string) error { return only(syscall.Getxattr(t, "user.x", nil)) }},
	{"exist", "go-inotify", func(t string) error {
		fd, err := syscall.InotifyInit()
		if err != nil {
			return err
		}
		return only(syscall.InotifyAddWatch(fd, t, syscall.IN_OPEN))
	}},
	{"exist", "go-raw-stat", func(t string) error {
		return only(raw(syscall.SYS_STAT, pointer(t), uintptr(unsafe.Pointer(new(syscall.Stat_t)))))
	}},

	{"write", "go-writefile", func(string) error { return os.WriteFile(in("outside/file"), []byte("x"), 0644) }},
	{"write", "go-create", func(string) error { return os.WriteFile(in("outside/new"), []byte("x"), 0644) }},
	{"write", "go-append", func(string) error {
		file, err := os.OpenFile(in("outside/file"), os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = file.WriteString("x")
		}
		return err
	}},
	{"write", "go-truncate", func(string) error { return os.Truncate(in("outside/file"), 0) }},
	{"write", "go-remove", func(string) error { return os.Remove(in("outside/file")) }},
	{"write", "go-remove-all", func(string) error { return os.RemoveAll(in("outside/empty")) }},
	{"write", "go-rename-out", func(string) error { return os.Rename(in("outside/file"), in("work/x")) }},
	{"write", "go-rename-in", func(string) error {
		os.WriteFile(in("work/x"), []byte("x"), 0644)
		return os.Rename(in("work/x"), in("outside/file"))
	}},
	{"write", "go-mkdir", func(string) error { return os.Mkdir(in("outside/new"), 0755) }},
	{"write", "go-symlink", func(string) error { return os.Symlink("x", in("outside/new")) }},
	{"write", "go-link", func(string) error { return os.Link(in("outside/file"), in("outside/new")) }},
	{"write", "go-link-and-write", func(string) error {
		if err := os.Link(in("outside/file"), in("work/x")); err != nil {
			return err
		}
		return os.WriteFile(in("work/x"), []byte("x"), 0644)
	}},
	{"write", "go-through-symlink", func(string) error {
		os.Symlink(in("outside"), in("work/l"))
		return os.WriteFile(in("work/l/new"), []byte("x"), 0644)
	}},
	{"write", "go-chmod", func(string) error { return os.Chmod(in("outside/file"), 0600) }},
	{"write", "go-fchmod", func(string) error {
		file, err := os.Open(in("outside/file"))
		if err != nil {
			return err
		}
		return file.Chmod(0600)
	}},
	{"write", "go-chtimes", func(string) error { return os.Chtimes(in("outside/file"), time.Now(), time.Now()) }},
	{"write", "go-setxattr", func(string) error { return syscall.Setxattr(in("outside/file"), "user.x", []byte("x"), 0) }},
	{"write", "go-mknod", func(string) error { return syscall.Mknod(in("outside/new"), syscall.S_IFIFO|0644, 0) }},
	{"write", "go-listen", func(string) error { return only(net.Listen("unix", in("outside/new"))) }},
	{"write", "go-shared-memory", func(string) error {
		file, err := os.OpenFile(in("outside/file"), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		memory, err := syscall.Mmap(int(file.Fd()), 0, 4, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if err == nil {
			memory[0] = 'X'
		}
		return err
	}},
	{"write", "go-command", func(string) error {
		command := exec.Command("/bin/cp", "/etc/hostname", in("outside/file"))
		command.Env = []string{}
		return command.Run()
	}},
	{"write", "go-raw-open", func(string) error {
		return only(raw(syscall.SYS_OPEN, pointer(in("outside/new")), syscall.O_CREAT|syscall.O_WRONLY, 0644))
	}},
	{"write", "go-raw-unlinkat", func(string) error {
		return only(raw(syscall.SYS_UNLINKAT, ^uintptr(99), pointer(in("outside/file")), 0))
	}},
}

func main() {
	if len(os.Args) < 3 {
		for _, each := range attempts {
			fmt.Println(each.kind, each.name)
		}
		return
	}
	target := in("hidden/secret")
	if len(os.Args) > 3 {
		target = os.Args[3]
	}
	for _, each := range attempts {
		if each.kind == os.Args[1] && each.name == os.Args[2] {
			var number syscall.Errno
			if err := each.run(target); err != nil && !errors.As(err, &number) {
				fmt.Println("ERRNO -1", err)
			} else {
				fmt.Println("ERRNO", int(number))
			}
			return
		}
	}
	os.Exit(99)
}
