// Package process1 is what a sandbox's process number 1 does: it builds the
// root file system, starts the command, hands signals on and reaps.
//
// The work is done while the packages of the program are initialised, before
// main: the AWS clients alone take longer to initialise than a sandbox takes to
// build. The linker initialises packages as soon as what they import is
// initialised, so this package imports little, and neither os/signal nor
// path/filepath. Where the order came out otherwise it would only be slower.
package process1

import (
	"encoding/json"
	"errors"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What process 1 was doing when it failed, where that decides the message.
const (
	OpExec  = "execute"
	OpChdir = "change to directory"
	OpProc  = "mount proc on"
)

func init() {
	if len(os.Args) == 2 && os.Args[0] == Name {
		os.Exit(process1())
	}
}

// setupFailure is an error of one step of building the sandbox.
type setupFailure struct {
	op, path string
	err      error
}

func (e *setupFailure) Error() string { return e.op + " " + e.path + ": " + e.err.Error() }
func (e *setupFailure) Unwrap() error { return e.err }

func fail(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &setupFailure{op, path, err}
}

// process1 sets up the namespaces that it was born in, starts the command and
// returns the exit status for this process. The kernel kills what is left when
// it exits.
func process1() int {
	// no_new_privs and capabilities belong to a thread; the command is
	// started from this one.
	runtime.LockOSThread()
	ignoreSignals()
	fd, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return 2
	}
	conn := os.NewFile(uintptr(fd), "sandbox")
	in, out := json.NewDecoder(conn), json.NewEncoder(conn)
	var cfg Config
	if in.Decode(&cfg) != nil {
		return 2
	}
	pid, err := start(&cfg)
	if err != nil {
		r := Reply{Op: "set up", Text: err.Error()}
		var f *setupFailure
		if errors.As(err, &f) {
			r = Reply{Op: f.op, Path: f.path, Text: f.err.Error()}
		}
		_ = errors.As(err, &r.Errno)
		_ = out.Encode(r)
		return 2
	}
	if out.Encode(Reply{}) != nil {
		return 2
	}
	target := pid
	if cfg.SignalGroup {
		target = -pid
	}
	go func() {
		for {
			var s Signal
			// The other end closes only when our parent is gone, in
			// whatever way; PDEATHSIG watches one thread of it alone.
			if in.Decode(&s) != nil {
				os.Exit(128 + int(unix.SIGKILL))
			}
			_ = unix.Kill(target, syscall.Signal(s.Signal))
		}
	}()
	status := reap(pid)
	_ = out.Encode(Reply{Ended: true, Status: status})
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// ignoreSignals keeps what others send to this process, a service manager that
// stops a whole unit for example, from ending the sandbox: that is up to the
// parent. The command starts with default actions.
func ignoreSignals() {
	type sigaction struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}
	ignore := sigaction{handler: 1} // SIG_IGN
	for _, s := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2} {
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&ignore)), 0, unsafe.Sizeof(ignore.mask), 0, 0)
	}
}

// reap waits for whatever ends, until pid has.
func reap(pid int) unix.WaitStatus {
	for {
		var status unix.WaitStatus
		switch p, err := unix.Wait4(-1, &status, 0, nil); {
		case p == pid && (status.Exited() || status.Signaled()):
			return status
		case err != nil && !errors.Is(err, unix.EINTR):
			return unix.WaitStatus(unix.SIGKILL) // cannot be: the command is our child
		}
	}
}

func start(cfg *Config) (pid int, err error) {
	// Descriptors that this program's parent leaked end here.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return 0, fail("close_range", "", err)
	}
	for _, f := range cfg.CgroupProcs {
		if err := os.WriteFile(f, []byte("0"), 0); err != nil {
			return 0, fail("enter control group", f, err)
		}
	}
	unix.Umask(0)
	if err := buildRoot(cfg); err != nil {
		return 0, err
	}
	if err := unix.Sethostname([]byte(cfg.Hostname)); err != nil {
		return 0, fail("set hostname", cfg.Hostname, err)
	}
	if cfg.Network == NetworkNone {
		if err := loopbackUp(); err != nil {
			return 0, fail("bring up", "lo", err)
		}
	}
	for which, l := range cfg.Rlimits {
		if err := unix.Prlimit(0, which, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil); err != nil {
			return 0, fail("set rlimit", strconv.Itoa(which), err)
		}
	}
	if err := unix.Chdir(cfg.Dir); err != nil {
		return 0, fail(OpChdir, cfg.Dir, err)
	}
	name, err := lookPath(cfg.Args[0], cfg.Env)
	if err != nil {
		return 0, fail(OpExec, cfg.Args[0], err)
	}
	if err := ownOutput(cfg); err != nil {
		return 0, err
	}
	if err := dropPrivileges(cfg); err != nil {
		return 0, err
	}
	unix.Umask(cfg.Umask)

	attr := &syscall.ProcAttr{Env: cfg.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}}
	for i := range cfg.ExtraFiles {
		attr.Files = append(attr.Files, uintptr(3+i))
	}
	if !cfg.OneID {
		groups := make([]uint32, len(cfg.Groups))
		for i, g := range cfg.Groups {
			groups[i] = uint32(g)
		}
		attr.Sys.Credential = &syscall.Credential{Uid: uint32(cfg.UID), Gid: uint32(cfg.GID), Groups: groups}
	}
	pid, err = syscall.ForkExec(name, cfg.Args, attr)
	return pid, fail(OpExec, name, err)
}

// ownOutput gives pipes on descriptors 0 to 2 to the command's user, who could
// not open /dev/stdout and /dev/stderr otherwise.
func ownOutput(cfg *Config) error {
	if cfg.OneID {
		return nil // they are ours, or nobody's to give
	}
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			continue
		}
		if err := unix.Fchown(fd, cfg.UID, cfg.GID); err != nil {
			return fail("change owner of descriptor", strconv.Itoa(fd), err)
		}
	}
	return nil
}

// rootCapabilities are what container engines leave to the user 0 of a
// container; any other user has none.
var rootCapabilities = map[uintptr]bool{
	unix.CAP_CHOWN: true, unix.CAP_DAC_OVERRIDE: true, unix.CAP_FSETID: true, unix.CAP_FOWNER: true,
	unix.CAP_MKNOD: true, unix.CAP_NET_RAW: true, unix.CAP_SETGID: true, unix.CAP_SETUID: true,
	unix.CAP_SETFCAP: true, unix.CAP_SETPCAP: true, unix.CAP_NET_BIND_SERVICE: true, unix.CAP_SYS_CHROOT: true,
	unix.CAP_KILL: true, unix.CAP_AUDIT_WRITE: true,
}

// dropPrivileges prepares this thread so that what it executes can never have
// more than rootCapabilities, and as a user other than 0 none.
func dropPrivileges(cfg *Config) error {
	for c := uintptr(0); ; c++ {
		if cfg.UID == 0 && rootCapabilities[c] {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); errors.Is(err, unix.EINVAL) {
			break // past the last capability
		} else if err != nil {
			return fail("drop capability", strconv.Itoa(int(c)), err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fail("drop ambient capabilities", "", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fail("set no_new_privs", "", err)
	}
	// Keys of our parent's session are not for the command. Without the
	// kernel's key store there are none.
	_, _ = unix.KeyctlJoinSessionKeyring("")
	// The command may have our user id; it must not read our memory.
	return fail("hide process 1", "", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}

// lookPath finds an executable as execvp(3) does, on the PATH of env.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	search := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	for dir := range strings.SplitSeq(search, ":") {
		p := path.Join(dir, name)
		var st unix.Stat_t
		if !path.IsAbs(p) || unix.Stat(p, &st) != nil {
			continue
		}
		if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0 {
			return p, nil
		}
	}
	return "", unix.ENOENT
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req)
}
