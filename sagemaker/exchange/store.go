package exchange

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Errors of a Store, wrapped in what was asked for.
var (
	// ErrNotFound means that there is no such object.
	ErrNotFound = errors.New("no such object")
	// ErrExists means that somebody else wrote the object first.
	ErrExists = errors.New("the object exists already")
)

// Object is one entry of a listing.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
}

// Store is where the exchange lies. Implementations are strongly consistent,
// safe for concurrent use, and sit out an outage of about two minutes before
// they report an error.
type Store interface {
	// Put writes an object, streaming r: it is never held whole in memory. The
	// object appears when all of r was read, or not at all.
	Put(ctx context.Context, key string, r io.Reader) error
	// PutBytes writes a small object.
	PutBytes(ctx context.Context, key string, b []byte) error
	// PutIfAbsent writes an object that does not exist yet. If it does, the
	// error wraps ErrExists, except that an object with exactly this content
	// counts as our own earlier write, whose answer was lost: content must
	// therefore be unique to its writer where that matters.
	PutIfAbsent(ctx context.Context, key string, b []byte) error
	// Get opens an object. The error wraps ErrNotFound if there is none.
	Get(ctx context.Context, key string) (io.ReadCloser, error)
	// List yields the objects below a prefix in the order of their keys, and at
	// most one error, as the last.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Delete removes objects; one that does not exist is no error.
	Delete(ctx context.Context, keys ...string) error
	// URL names an object for people.
	URL(key string) string
}
