package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sandbox"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// trustStores are where distributions keep the authorities that every program
// trusts.
var trustStores = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"}

// packageState is what package managers know of the system: part of it, though
// it lies in /var.
var packageState = []string{"/var/lib/dpkg", "/var/lib/apt", "/var/lib/rpm"}

// Sandbox runs containers in Linux namespaces, on throwaway overlays of the
// machine's system directories.
type Sandbox struct {
	images    string
	sensitive func() ([]string, error)
	limits    func() error
	skeleton  func() (string, error)
}

// NewSandbox makes the runtime. images is a JSON file, an object of reference
// to Image, that may be missing and is read at every start. Its directory
// outlives this process; an ordinary user's copy of the system's directories is
// kept there.
func NewSandbox(images string) *Sandbox {
	s := &Sandbox{
		images:    images,
		sensitive: sync.OnceValues(func() ([]string, error) { return sandbox.Sensitive("/") }),
		limits:    sync.OnceValue(sandbox.LimitsAvailable),
	}
	s.skeleton = sync.OnceValues(func() (string, error) {
		if os.Geteuid() == 0 {
			return "", nil
		}
		dir, err := filepath.Abs(filepath.Dir(images))
		if err != nil {
			return "", err
		}
		return skeleton(dir)
	})
	return s
}

// LimitsAvailable says whether memory limits are enforced here.
func (s *Sandbox) LimitsAvailable() error { return s.limits() }

// Check implements Runtime.
func (s *Sandbox) Check(_ context.Context, image string) error {
	_, err := loadImage(s.images, image)
	return err
}

// Start implements Runtime.
func (s *Sandbox) Start(ctx context.Context, spec Spec) (Process, error) {
	image, err := loadImage(s.images, spec.Image)
	if err != nil {
		return nil, err
	}
	uid, gid, home, err := image.user()
	if err != nil {
		return nil, &ImageError{Image: spec.Image, Reason: err.Error()}
	}
	args := image.command(&spec)
	mounts, err := s.mounts(image, &spec, uid, gid)
	if err != nil {
		return nil, err
	}
	box := sandbox.Spec{
		Args: args, Env: image.environment(&spec, home), Dir: image.Workdir, Hostname: spec.Hostname,
		Mounts: mounts, UID: uid, GID: gid,
	}
	if spec.Isolated {
		box.Network = sandbox.NetworkNone
	}
	if spec.Memory > 0 && s.limits() == nil {
		box.Limits.MemoryBytes = spec.Memory
	}
	cmd, err := sandbox.Command(ctx, box)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = spec.Output, spec.Output
	if err := cmd.Start(); err != nil {
		return nil, startError(args[0], err)
	}
	return &process{cmd: cmd}, nil
}

// command is what runs: SageMaker starts an image with the argument "train",
// which takes the place of CMD; ContainerEntrypoint takes the place of
// ENTRYPOINT.
func (i *Image) command(spec *Spec) []string {
	entrypoint, args := spec.Entrypoint, spec.Args
	if len(entrypoint) == 0 {
		entrypoint = i.Entrypoint
		if len(args) == 0 && spec.DefaultArg != "" {
			args = []string{spec.DefaultArg}
		}
		if len(args) == 0 {
			args = i.Cmd
		}
	}
	return slices.Concat(entrypoint, args)
}

func (i *Image) environment(spec *Spec, home string) []string {
	env := map[string]string{"PATH": defaultPath, "HOME": home, "HOSTNAME": spec.Hostname}
	maps.Copy(env, i.Env)
	for _, e := range spec.Env {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}

// startError tells a program that the image does not have from trouble of the
// platform, in the words of a container engine.
func startError(program string, err error) error {
	switch {
	case !errors.Is(err, sandbox.ErrExecute):
		return fmt.Errorf("start the container: %w", err)
	case errors.Is(err, fs.ErrPermission):
		return &ExecError{Program: program, Reason: "permission denied"}
	case strings.Contains(program, "/"):
		return &ExecError{Program: program, Reason: "stat " + program + ": no such file or directory"}
	}
	return &ExecError{Program: program, Reason: "executable file not found in $PATH"}
}

// mounts builds the container's file system: the system's directories with the
// image's layers over them, private directories for data, and the platform's
// own mounts.
func (s *Sandbox) mounts(image *Image, spec *Spec, uid, gid int) ([]sandbox.Mount, error) {
	sensitive, err := s.sensitive()
	if err != nil {
		return nil, err
	}
	hide := slices.Concat(sensitive, image.removed())
	resolv, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the name servers: %w", err)
	}
	// It may link to where the container has nothing.
	hide = outermost(append(hide, "/etc/resolv.conf"))
	mounts, err := s.system(image, spec.Scratch, hide)
	if err != nil {
		return nil, err
	}
	mounts = append(mounts, sandbox.Proc{Target: "/proc"}, sandbox.Dev{Target: "/dev"}, sandbox.Tmpfs{Target: "/run"})
	private, err := s.private(image, spec.Scratch, hide)
	if err != nil {
		return nil, err
	}
	mounts = append(mounts, private...)
	mounts = append(mounts,
		sandbox.File{Target: "/etc/hosts", Content: hostsFile(spec.Hosts)},
		sandbox.File{Target: "/etc/hostname", Content: []byte(spec.Hostname + "\n")},
		sandbox.File{Target: "/etc/resolv.conf", Content: resolv},
	)
	if image.Workdir != "" {
		mounts = append(mounts, sandbox.Directory{Target: path.Clean(image.Workdir), UID: uid, GID: gid})
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Files)) {
		mounts = append(mounts, sandbox.File{Target: name, Content: spec.Files[name]})
	}
	mounts = append(mounts, trust(image, spec.Trust)...)
	for _, m := range spec.Mounts {
		mounts = append(mounts, sandbox.Bind{Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	return mounts, nil
}

// outermost drops paths that lie below another: what is not there has nothing
// to hide in it.
func outermost(paths []string) []string {
	slices.Sort(paths)
	var list []string
	for _, p := range paths {
		if !slices.ContainsFunc(list, func(o string) bool { return p == o || strings.HasPrefix(p, o+"/") }) {
			list = append(list, p)
		}
	}
	return list
}

// removed are the paths that the image does not have, with the links of a
// merged /usr followed.
func (i *Image) removed() []string {
	var list []string
	for _, p := range i.Remove {
		p = path.Clean(p)
		top, rest, _ := strings.Cut(strings.TrimPrefix(p, "/"), "/")
		if link, err := os.Readlink("/" + top); err == nil && rest != "" {
			p = path.Join("/", link, rest)
		}
		list = append(list, p)
	}
	return list
}

// system mounts the machine's system directories, the layers' over them.
func (s *Sandbox) system(image *Image, scratch string, hide []string) ([]sandbox.Mount, error) {
	mounts, err := sandbox.System("/", scratch, hide)
	if err != nil {
		return nil, err
	}
	directories, err := s.skeleton()
	if err != nil {
		return nil, err
	}
	for i, m := range mounts {
		overlay, ok := m.(sandbox.Overlay)
		if !ok {
			continue
		}
		if p := filepath.Join(directories, overlay.Target); directories != "" && isDir(p) {
			overlay.Lower = slices.Insert(overlay.Lower, 0, p)
		}
		for _, l := range image.Layers { // the lowest first, Lower has the topmost first
			dir := filepath.Join(l, overlay.Target)
			if info, err := os.Stat(dir); err == nil && info.IsDir() {
				overlay.Lower = slices.Insert(overlay.Lower, 0, dir)
			}
		}
		mounts[i] = overlay
	}
	return mounts, nil
}

// private mounts directories that hold nothing of the machine: its data is not
// the image's.
func (s *Sandbox) private(image *Image, scratch string, hide []string) ([]sandbox.Mount, error) {
	modes := map[string]os.FileMode{
		"tmp": 0o777 | os.ModeSticky, "var": 0o755, "home": 0o755, "root": 0o700, "opt": 0o755, "srv": 0o755, "mnt": 0o755, "media": 0o755,
	}
	var mounts []sandbox.Mount
	for _, l := range image.Layers {
		entries, err := os.ReadDir(l)
		if err != nil {
			return nil, fmt.Errorf("image layer: %w", err)
		}
		for _, e := range entries {
			if name := e.Name(); e.IsDir() && modes[name] == 0 && !isSystem(name) {
				modes[name] = 0o755
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(modes)) {
		target := "/" + name
		dir := filepath.Join(scratch, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, fmt.Errorf("scratch directory: %w", err)
		}
		if err := os.Chmod(dir, modes[name]); err != nil {
			return nil, fmt.Errorf("scratch directory: %w", err)
		}
		var lower []string
		for _, l := range slices.Backward(image.Layers) {
			if p := filepath.Join(l, name); isDir(p) {
				lower = append(lower, p)
			}
		}
		if len(lower) == 0 {
			mounts = append(mounts, sandbox.Bind{Source: dir, Target: target})
			continue
		}
		mounts = append(mounts, sandbox.Overlay{Target: target, Lower: lower, Scratch: dir, Hide: below(target, hide)})
	}
	mounts = append(mounts, sandbox.Directory{Target: "/var/tmp", Mode: 0o1777})
	for _, d := range []string{"/var/log", "/var/cache", "/var/lib", "/var/spool"} {
		mounts = append(mounts, sandbox.Directory{Target: d})
	}
	mounts = append(mounts, sandbox.Symlink{Target: "/var/run", Link: "/run"}, sandbox.Directory{Target: "/run/lock", Mode: 0o1777})
	for _, p := range packageState {
		if !isDir(p) || slices.ContainsFunc(hide, func(h string) bool { return h == p }) {
			continue
		}
		dir := filepath.Join(scratch, strings.ReplaceAll(strings.TrimPrefix(p, "/"), "/", "-"))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, fmt.Errorf("scratch directory: %w", err)
		}
		mounts = append(mounts, sandbox.Overlay{Target: p, Lower: []string{p}, Scratch: dir})
	}
	return mounts, nil
}

func isDir(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.IsDir()
}

// isSystem says whether a top-level name is mounted by sandbox.System or by us.
func isSystem(name string) bool {
	return slices.Contains([]string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "proc", "dev", "run", "sys"}, name)
}

func below(target string, paths []string) []string {
	var list []string
	for _, p := range paths {
		if rel, ok := strings.CutPrefix(p, target+"/"); ok {
			list = append(list, rel)
		}
	}
	return list
}

// trust adds an authority to the image's own trust store. An image without one
// stays without.
func trust(image *Image, authority []byte) []sandbox.Mount {
	if len(authority) == 0 {
		return nil
	}
	var mounts []sandbox.Mount
	for _, name := range trustStores {
		gone := slices.ContainsFunc(image.removed(), func(r string) bool { return name == r || strings.HasPrefix(name, r+"/") })
		b, err := os.ReadFile(image.file(name))
		if gone || err != nil {
			continue
		}
		mounts = append(mounts, sandbox.File{Target: name, Content: slices.Concat(bytes.TrimRight(b, "\n"), []byte("\n"), authority)})
	}
	return mounts
}

func hostsFile(hosts map[string]string) []byte {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		fmt.Fprintf(&b, "%s\t%s\n", hosts[name], name)
	}
	return []byte(b.String())
}

// process is a sandbox's Process.
type process struct{ cmd *sandbox.Cmd }

func (p *process) Signal(sig os.Signal) error { return p.cmd.Signal(sig) }
func (p *process) Kill() error                { return p.cmd.Process.Kill() }

func (p *process) Wait() (Exit, error) {
	err := p.cmd.Wait()
	exit := Exit{OOMKilled: p.cmd.OOMKilled()}
	var status interface{ ExitCode() int }
	switch {
	case err == nil:
		return exit, nil
	case errors.As(err, &status):
		exit.Code = status.ExitCode()
		if exit.Code < 0 { // process 1 itself was killed
			exit.Code = 128 + int(unix.SIGKILL)
		}
		return exit, nil
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return exit, fmt.Errorf("wait for the container: %w", err)
	}
	exit.Code = 128 + int(unix.SIGKILL) // its context ended
	return exit, nil
}
