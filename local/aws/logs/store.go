package logs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/rpc"
)

// group is a log group: a directory with group.json and a file per stream.
type group struct {
	groupInfo
	dir string

	mu      sync.RWMutex
	streams map[string]*stream
}

// groupInfo is what group.json holds.
type groupInfo struct {
	Name      string            `json:"name"`
	Created   int64             `json:"created"`
	Retention int               `json:"retention,omitempty"` // days; 0 keeps for ever
	KMSKey    string            `json:"kms_key,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
}

// store holds the log groups of an account.
type store struct {
	dir string
	now func() time.Time

	mu     sync.RWMutex
	groups map[string]*group
}

var (
	errNoGroup      = rpc.Errorf("ResourceNotFoundException", "The specified log group does not exist.")
	errNoStream     = rpc.Errorf("ResourceNotFoundException", "The specified log stream does not exist.")
	errGroupExists  = rpc.Errorf("ResourceAlreadyExistsException", "The specified log group already exists")
	errStreamExists = rpc.Errorf("ResourceAlreadyExistsException", "The specified log stream already exists")
)

func fileName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

func openStore(dir string, now func() time.Time) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the local CloudWatch Logs: %w", err)
	}
	s := &store{dir: dir, now: now, groups: map[string]*group{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the directory of the local CloudWatch Logs: %w", err)
	}
	for _, e := range entries {
		g, err := openGroup(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read a log group: %w", err)
		}
		s.groups[g.Name] = g
	}
	return s, nil
}

func openGroup(dir string) (*group, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "group.json"))
	if err != nil {
		return nil, err
	}
	g := &group{dir: dir, streams: map[string]*stream{}}
	if err := json.Unmarshal(raw, &g.groupInfo); err != nil {
		return nil, fmt.Errorf("%s: group.json: %w", dir, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		st, err := openStream(path)
		if err != nil {
			return nil, err
		}
		g.streams[st.Name] = st
	}
	return g, nil
}

func (s *store) millis() int64 { return s.now().UnixMilli() }

func (s *store) group(name string) (*group, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if g := s.groups[name]; g != nil {
		return g, nil
	}
	return nil, errNoGroup
}

func (s *store) createGroup(info groupInfo) (*group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[info.Name]; g != nil {
		return g, errGroupExists
	}
	info.Created = s.millis()
	g := &group{groupInfo: info, dir: filepath.Join(s.dir, fileName(info.Name)), streams: map[string]*stream{}}
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return nil, fmt.Errorf("create log group %q: %w", info.Name, err)
	}
	if err := g.save(); err != nil {
		return nil, fmt.Errorf("create log group %q: %w", info.Name, err)
	}
	s.groups[info.Name] = g
	return g, nil
}

func (s *store) deleteGroup(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[name]
	if g == nil {
		return errNoGroup
	}
	delete(s.groups, name)
	return os.RemoveAll(g.dir)
}

// list returns the groups by name.
func (s *store) list() []*group {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*group, 0, len(s.groups))
	for _, g := range s.groups {
		all = append(all, g)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// save writes group.json; the caller holds mu or owns the group alone.
func (g *group) save() error {
	raw, err := json.Marshal(g.groupInfo)
	if err != nil {
		return err
	}
	tmp := filepath.Join(g.dir, "group.json.new")
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(g.dir, "group.json"))
}

// change changes and saves a group's settings.
func (g *group) change(f func(*groupInfo)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(&g.groupInfo)
	return g.save()
}

func (g *group) info() groupInfo {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.groupInfo
}

func (g *group) stream(name string) (*stream, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if st := g.streams[name]; st != nil {
		return st, nil
	}
	return nil, errNoStream
}

func (g *group) createStream(name string, now int64) (*stream, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if st := g.streams[name]; st != nil {
		return st, errStreamExists
	}
	st, err := createStream(filepath.Join(g.dir, fileName(name)+".log"), name, now)
	if err != nil {
		return nil, fmt.Errorf("create log stream %q: %w", name, err)
	}
	g.streams[name] = st
	return st, nil
}

func (g *group) deleteStream(name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := g.streams[name]
	if st == nil {
		return errNoStream
	}
	delete(g.streams, name)
	return os.Remove(st.path)
}

// list returns the streams whose name starts with prefix, by name.
func (g *group) list(prefix string) []*stream {
	g.mu.RLock()
	defer g.mu.RUnlock()
	var all []*stream
	for _, st := range g.streams {
		if strings.HasPrefix(st.Name, prefix) {
			all = append(all, st)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// PutEvents appends events to a stream; group and stream are made when they
// are missing, and AWS's limits on a request do not apply.
func (s *Service) PutEvents(groupName, streamName string, events []Event) error {
	g, err := s.store.group(groupName)
	if errors.Is(err, errNoGroup) {
		if g, err = s.store.createGroup(groupInfo{Name: groupName}); errors.Is(err, errGroupExists) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	st, err := g.stream(streamName)
	if errors.Is(err, errNoStream) {
		if st, err = g.createStream(streamName, s.store.millis()); errors.Is(err, errStreamExists) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	if err := st.append(events, s.store.millis()); err != nil {
		return fmt.Errorf("append to log stream %q: %w", streamName, err)
	}
	return nil
}
