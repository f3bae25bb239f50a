package settings

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/suggest"
)

// Key is one key of the settings file, for documentation.
type Key struct {
	Name    string // table.key
	Type    string // string, integer, boolean, duration, list, table
	Doc     string
	Allowed string // the values, where they are few
}

// Describe lists all keys in the order of the file.
func Describe() []Key {
	var keys []Key
	describe(reflect.TypeFor[Settings](), "", &keys)
	return keys
}

// Keys lists the names of all keys (table.key).
func Keys() []string {
	var names []string
	for _, k := range Describe() {
		names = append(names, k.Name)
	}
	return names
}

func describe(t reflect.Type, prefix string, keys *[]Key) {
	for f := range t.Fields() {
		name := f.Tag.Get("toml")
		if name == "-" {
			continue
		}
		if f.Type.Kind() == reflect.Struct {
			describe(f.Type, prefix+name+".", keys)
			continue
		}
		*keys = append(*keys, Key{Name: prefix + name, Type: typeName(f.Type), Doc: f.Tag.Get("doc"), Allowed: f.Tag.Get("allowed")})
	}
}

func typeName(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Duration]():
		return "duration"
	case t.Kind() == reflect.Slice:
		return "list"
	case t.Kind() == reflect.Map:
		return "table"
	case t.Kind() == reflect.Bool:
		return "boolean"
	case t.Kind() == reflect.String:
		return "string"
	default:
		return "integer"
	}
}

// set gives key (table.key, or a table of names and .NAME) the value in text.
func (s *Settings) set(key, text, source string) error {
	v, name, ok := s.find(key)
	if !ok {
		return fmt.Errorf("%s: unknown key %s%s", source, key, suggest.Hint(key, Keys()))
	}
	wrong := func(allowed string) error {
		return fmt.Errorf("%s: %s is %q: allowed is %s", source, key, text, allowed)
	}
	s.Sources[key] = source
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(text)); err != nil {
			return fmt.Errorf("%s: %s: %w", source, key, err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Map:
		if name == "" {
			return wrong("nothing here: name the entry, " + key + ".NAME=VALUE")
		}
		v.SetMapIndex(reflect.ValueOf(name), reflect.ValueOf(text))
	case reflect.Slice:
		list := []string{}
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		v.Set(reflect.ValueOf(list))
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return wrong("true or false")
		}
		v.SetBool(b)
	case reflect.String:
		v.SetString(text)
	default:
		i, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return wrong("a whole number")
		}
		v.SetInt(i)
	}
	return nil
}

// find returns the field of a key; for an entry of a table of names, the table
// and the entry's name.
func (s *Settings) find(key string) (field reflect.Value, name string, ok bool) {
	v := reflect.ValueOf(s).Elem()
	rest := key
	for {
		part, more, _ := strings.Cut(rest, ".")
		f, found := fieldByKey(v, part)
		switch {
		case !found:
			return reflect.Value{}, "", false
		case f.Kind() == reflect.Struct && more != "":
			v, rest = f, more
		case f.Kind() == reflect.Map:
			return f, more, true
		case f.Kind() == reflect.Struct || more != "":
			return reflect.Value{}, "", false
		default:
			return f, "", true
		}
	}
}

func fieldByKey(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if tag := v.Type().Field(i).Tag.Get("toml"); tag == name && tag != "-" {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}
