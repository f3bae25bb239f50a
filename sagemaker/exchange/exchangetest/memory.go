package exchangetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// Memory is a Store in memory, for tests that need no server. The zero value is
// empty.
type Memory struct {
	mu      sync.Mutex
	objects map[string][]byte
}

var _ exchange.Store = (*Memory)(nil)

// Put implements exchange.Store.
func (m *Memory) Put(ctx context.Context, key string, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("upload %s: %w", m.URL(key), err)
	}
	return m.PutBytes(ctx, key, b)
}

// PutBytes implements exchange.Store.
func (m *Memory) PutBytes(ctx context.Context, key string, b []byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("write %s: %w", m.URL(key), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects == nil {
		m.objects = map[string][]byte{}
	}
	m.objects[key] = bytes.Clone(b)
	return nil
}

// PutIfAbsent implements exchange.Store.
func (m *Memory) PutIfAbsent(ctx context.Context, key string, b []byte) error {
	m.mu.Lock()
	there, ok := m.objects[key]
	if !ok {
		if m.objects == nil {
			m.objects = map[string][]byte{}
		}
		m.objects[key] = bytes.Clone(b)
	}
	m.mu.Unlock()
	if ok && !bytes.Equal(there, b) {
		return fmt.Errorf("write %s: %w", m.URL(key), exchange.ErrExists)
	}
	return ctx.Err()
}

// Get implements exchange.Store.
func (m *Memory) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.objects[key]
	if !ok {
		return nil, fmt.Errorf("read %s: %w", m.URL(key), exchange.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(b)), ctx.Err()
}

// List implements exchange.Store.
func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[exchange.Object, error] {
	m.mu.Lock()
	objects := maps.Clone(m.objects)
	m.mu.Unlock()
	return func(yield func(exchange.Object, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(objects)) {
			if strings.HasPrefix(key, prefix) && !yield(exchange.Object{Key: key, Size: int64(len(objects[key])), Modified: time.Unix(0, 0)}, ctx.Err()) {
				return
			}
		}
	}
}

// Delete implements exchange.Store.
func (m *Memory) Delete(ctx context.Context, keys ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		delete(m.objects, key)
	}
	return ctx.Err()
}

// URL implements exchange.Store.
func (m *Memory) URL(key string) string { return "memory://" + key }
