package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// systemDirs are the top-level names that hold a Linux system's programs,
// libraries and configuration (hier(7)), as against its data. With merged /usr
// all but usr and etc are links.
var systemDirs = []string{"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc"}

// System returns the mounts that show the system directories of root ("/" for
// this machine's) under the same names. With scratch each is an overlay that
// can be written to, what is written going to a directory of its own below
// scratch, which the caller removes; without scratch they are read-only. hide
// are absolute paths that are not there, see [Sensitive].
func System(root, scratch string, hide []string) ([]Mount, error) {
	var mounts []Mount
	for _, name := range systemDirs {
		source, target := filepath.Join(root, name), "/"+name
		st, err := os.Lstat(source)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("sandbox: system directory: %w", err)
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			link, err := os.Readlink(source)
			if err != nil {
				return nil, fmt.Errorf("sandbox: system directory: %w", err)
			}
			mounts = append(mounts, Symlink{Target: target, Link: link})
			continue
		}
		var hidden []string
		for _, h := range hide {
			if rel, ok := strings.CutPrefix(h, target+"/"); ok {
				hidden = append(hidden, rel)
			}
		}
		switch {
		case scratch != "":
			dir := filepath.Join(scratch, name)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, fmt.Errorf("sandbox: scratch directory: %w", err)
			}
			mounts = append(mounts, Overlay{Target: target, Lower: []string{source}, Scratch: dir, Hide: hidden})
		case len(hidden) > 0:
			mounts = append(mounts, Overlay{Target: target, Lower: []string{source}, ReadOnly: true, Hide: hidden})
		default:
			mounts = append(mounts, Bind{Source: source, Target: target, ReadOnly: true})
		}
	}
	return mounts, nil
}

// Sensitive lists what code that is not trusted must not find in the system
// directories of root, as paths with root taken off: secrets at well-known
// places, and everything in /etc that only its owner or group may read, since
// the sandbox's user 0 has the rights of the owner.
func Sensitive(root string) ([]string, error) {
	found := WellKnownSecrets()
	known := map[string]bool{}
	for _, p := range found {
		known[p] = true
	}
	etc := filepath.Join(root, "etc")
	err := filepath.WalkDir(etc, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			if d != nil && d.IsDir() {
				return fs.SkipDir // cannot be read by us, so not from inside either
			}
			return err
		}
		inside := "/" + strings.TrimPrefix(strings.TrimPrefix(name, root), "/")
		if known[inside] {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		private := info.Mode().IsRegular() && info.Mode()&0o004 == 0 || d.IsDir() && info.Mode()&0o005 != 0o005
		if !private || inside == "/etc" {
			return nil
		}
		found = append(found, inside)
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("sandbox: look for private files: %w", err)
	}
	return found, nil
}

// WellKnownSecrets is the part of [Sensitive] that needs no look at the disk:
// enough for a user other than 0, whom file modes keep from the rest.
func WellKnownSecrets() []string {
	return []string{
		"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/security/opasswd",
		"/etc/sudoers", "/etc/sudoers.d", "/etc/gitlab-runner", "/etc/gitlab",
		"/etc/ssh/ssh_host_rsa_key", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ed25519_key",
		"/etc/ssl/private", "/etc/pki/tls/private", "/etc/letsencrypt", "/etc/krb5.keytab",
		"/etc/docker", "/etc/kubernetes", "/etc/rancher", "/etc/wireguard", "/etc/openvpn",
		"/etc/NetworkManager/system-connections", "/etc/environment", "/etc/default/gitlab-runner",
		"/etc/sysconfig/gitlab-runner", "/etc/systemd/system/gitlab-runner.service.d",
	}
}
