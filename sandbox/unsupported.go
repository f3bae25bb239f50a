package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sandbox/internal/process1"
	"golang.org/x/sys/unix"
)

// ErrUnsupported is what errors.Is finds in an error of a machine that refuses
// a namespace or a control group.
var ErrUnsupported = errors.New("not available on this machine")

// ErrExecute is what errors.Is finds when all was set up and the command itself
// could not be executed: the error wraps fs.ErrNotExist or fs.ErrPermission too.
var ErrExecute = errors.New("the command cannot be executed")

// UnsupportedError says what the machine refuses and how to allow it.
type UnsupportedError struct {
	What string // "user namespaces", "memory control group", ...
	Hint string // what to do, a clause
	Err  error
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("sandbox: %s %v: %v; %s", e.What, ErrUnsupported, e.Err, e.Hint)
}

// Is makes an UnsupportedError an [ErrUnsupported].
func (e *UnsupportedError) Is(target error) bool { return target == ErrUnsupported }

func (e *UnsupportedError) Unwrap() error { return e.Err }

// refused are the errors with which kernels refuse namespaces: EPERM and
// EACCES by policy, ENOSPC past a limit, EINVAL and ENOSYS when not built in.
func refused(err error) bool {
	for _, e := range []unix.Errno{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EUSERS, unix.EINVAL, unix.ENOSYS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// knobs are the settings that distributions have for namespaces.
var knobs = []struct {
	file, refusing, what, hint string
}{
	{"/proc/sys/user/max_user_namespaces", "0", "a user namespace is", "allow them: sysctl -w user.max_user_namespaces=10000"},
	{"/proc/sys/user/max_mnt_namespaces", "0", "a mount namespace is", "allow them: sysctl -w user.max_mnt_namespaces=10000"},
	{"/proc/sys/user/max_pid_namespaces", "0", "a pid namespace is", "allow them: sysctl -w user.max_pid_namespaces=10000"},
	{"/proc/sys/user/max_uts_namespaces", "0", "a uts namespace is", "allow them: sysctl -w user.max_uts_namespaces=10000"},
	{"/proc/sys/user/max_ipc_namespaces", "0", "an ipc namespace is", "allow them: sysctl -w user.max_ipc_namespaces=10000"},
	{"/proc/sys/user/max_net_namespaces", "0", "a network namespace is", "allow them: sysctl -w user.max_net_namespaces=10000"},
	// Debian's patch, for ordinary users only.
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "a user namespace for an ordinary user is", "allow it: sysctl -w kernel.unprivileged_userns_clone=1"},
	// Ubuntu 23.10 and newer, for ordinary users only: the namespace is
	// created, but without capabilities.
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "a user namespace for an ordinary user is", "allow it: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give this binary an AppArmor profile with `userns,`"},
}

func startError(err error) error {
	if !refused(err) {
		return fmt.Errorf("sandbox: start: %w", err)
	}
	for _, k := range knobs {
		if b, e := os.ReadFile(k.file); e == nil && strings.TrimSpace(string(b)) == k.refusing {
			return &UnsupportedError{What: k.what, Hint: k.hint, Err: err}
		}
	}
	return &UnsupportedError{
		What: "a user, mount, pid, uts, ipc or network namespace is",
		Hint: "allow it: in a container, run it with --security-opt seccomp=unconfined and CAP_SYS_ADMIN; elsewhere look at the sysctls user.max_*_namespaces",
		Err:  err,
	}
}

func setupError(r process1.Reply) error {
	var err error
	switch {
	case r.Op == "":
		return nil
	case r.Errno != 0:
		err = r.Errno
	default:
		err = errors.New(r.Text)
	}
	wrapped := fmt.Errorf("sandbox: %s %s: %w", r.Op, r.Path, err)
	if r.Op == process1.OpExec {
		return fmt.Errorf("%w (%w)", wrapped, ErrExecute)
	}
	if r.Errno != unix.EPERM && r.Errno != unix.EACCES && r.Errno != unix.ENOSYS {
		return wrapped
	}
	switch {
	case r.Op == process1.OpChdir:
		return wrapped
	case r.Errno == unix.ENOSYS:
		return &UnsupportedError{What: "the mount interface of Linux 5.12 is", Hint: "use a newer kernel", Err: wrapped}
	case r.Op == process1.OpProc && r.Errno == unix.EPERM:
		return &UnsupportedError{
			What: "a new /proc is",
			Hint: "parts of /proc are masked here, as container engines do: run the container with --security-opt systempaths=unconfined",
			Err:  wrapped,
		}
	}
	if b, e := os.ReadFile("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"); e == nil && strings.TrimSpace(string(b)) == "1" && os.Geteuid() != 0 {
		return startError(wrapped)
	}
	return wrapped
}
