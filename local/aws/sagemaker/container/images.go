package container

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Image says how an image differs from the machine's own system.
type Image struct {
	// User is USER: a name or id, with a group after a colon if there is one.
	User       string            `json:"user,omitempty"`
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Cmd        []string          `json:"cmd,omitempty"`
	Env        map[string]string `json:"env,omitempty"`
	Workdir    string            `json:"workdir,omitempty"`
	// Layers are directories that lie over the system, the lowest first.
	// Relative ones are relative to the file.
	Layers []string `json:"layers,omitempty"`
	// Remove are absolute paths that the image does not have.
	Remove []string `json:"remove,omitempty"`
	// Missing makes a pull fail, as an image that is not in its repository.
	Missing bool `json:"missing,omitempty"`
}

// loadImage finds a reference in the file; one that is not there is the
// machine's system as root. A missing file knows no image.
func loadImage(file, reference string) (*Image, error) {
	if file == "" {
		return new(Image), nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return new(Image), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the images: %w", err)
	}
	var images map[string]*Image
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&images); err != nil {
		return nil, fmt.Errorf("the images in %s: %w", file, err)
	}
	image, ok := images[reference]
	if !ok || image == nil {
		return new(Image), nil
	}
	if image.Missing {
		return nil, &ImageError{Image: reference, Reason: fmt.Sprintf("API error (404): pull access denied for %s, repository does not exist or may require 'docker login'", reference)}
	}
	for i, l := range image.Layers {
		if !filepath.IsAbs(l) {
			image.Layers[i] = filepath.Join(filepath.Dir(file), l)
		}
		if info, err := os.Stat(image.Layers[i]); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("image %s: layer %s is not a directory", reference, image.Layers[i])
		}
	}
	for _, p := range image.Remove {
		if !path.IsAbs(p) {
			return nil, fmt.Errorf("image %s: %q in remove is not an absolute path", reference, p)
		}
	}
	return image, nil
}

// file finds a file of the image: in the topmost layer that has it, or in the
// machine's system.
func (i *Image) file(name string) string {
	for n := len(i.Layers) - 1; n >= 0; n-- {
		p := filepath.Join(i.Layers[n], name)
		if _, err := os.Lstat(p); err == nil {
			return p
		}
	}
	return name
}

// user resolves USER with the image's own passwd and group files.
func (i *Image) user() (uid, gid int, home string, err error) {
	name, group, _ := strings.Cut(i.User, ":")
	if name == "" {
		name = "0"
	}
	home = "/"
	entry := lookup(i.file("/etc/passwd"), name, 7)
	switch {
	case entry != nil:
		uid, _ = strconv.Atoi(entry[2])
		gid, _ = strconv.Atoi(entry[3])
		home = entry[5]
	default:
		if uid, err = strconv.Atoi(name); err != nil {
			return 0, 0, "", fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)
		}
	}
	if group != "" {
		if entry := lookup(i.file("/etc/group"), group, 4); entry != nil {
			gid, _ = strconv.Atoi(entry[2])
		} else if gid, err = strconv.Atoi(group); err != nil {
			return 0, 0, "", fmt.Errorf("unable to find group %s: no matching entries in group file", group)
		}
	}
	return uid, gid, home, nil
}

// lookup finds a name or id in a passwd or group file.
func lookup(file, key string, fields int) []string {
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		entry := strings.Split(lines.Text(), ":")
		if len(entry) == fields && (entry[0] == key || entry[2] == key) {
			return entry
		}
	}
	return nil
}
