package request

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/internal/lazyregexp"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/suggest"
)

// decoder puts a tree of JSON or YAML into a request of the AWS SDK, whose Go
// fields bear the API's names. It is stricter than encoding/json: names must
// match in case, numbers must fit, enums must exist.
type decoder struct {
	paths map[string]bool // of the values that were set, without list positions
}

// fieldName is a name that is fit to be shown: AWS has no other.
var fieldName = lazyregexp.New(`^[A-Za-z][A-Za-z0-9]{0,63}$`)

func (d *decoder) decode(path string, object map[string]any, into any) error {
	return d.object(path, object, reflect.ValueOf(into).Elem())
}

func (d *decoder) object(path string, object map[string]any, into reflect.Value) error {
	for _, name := range sortedKeys(object) {
		if !fieldName().MatchString(name) {
			return fmt.Errorf("%s has a field whose name is none of AWS's", orTop(path))
		}
		f, ok := into.Type().FieldByName(name)
		if !ok || !isAPIField(f) {
			return fmt.Errorf("unknown field %s%s", join(path, name), suggest.Hint(name, fieldNames(into.Type())))
		}
		if object[name] == nil {
			continue // null is "not set", as in the AWS CLI's skeletons
		}
		if err := d.value(join(path, name), object[name], into.FieldByIndex(f.Index)); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) value(path string, v any, into reflect.Value) error {
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return d.value(path, v, into.Elem())
	case reflect.Struct:
		object, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("%s must be a mapping", path)
		}
		return d.object(path, object, into)
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			return fmt.Errorf("%s must be a list", path)
		}
		into.Set(reflect.MakeSlice(into.Type(), len(list), len(list)))
		for i, item := range list {
			if item == nil {
				return fmt.Errorf("%s has an empty item", path)
			}
			if err := d.value(path, item, into.Index(i)); err != nil {
				return err
			}
		}
		if len(list) == 0 || into.Type().Elem().Kind() != reflect.Struct {
			d.paths[path] = true
		}
		return nil
	case reflect.Map:
		return d.mapping(path, v, into)
	}
	d.paths[path] = true
	return scalar(path, v, into)
}

// mapping reads a map of strings. Hyperparameters that are not strings become
// their JSON, as in SAGEMAKER_HYPERPARAMETERS.
func (d *decoder) mapping(path string, v any, into reflect.Value) error {
	object, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s must be a mapping of names to values", path)
	}
	d.paths[path] = true
	into.Set(reflect.MakeMapWithSize(into.Type(), len(object)))
	for key, item := range object {
		text, ok := item.(string)
		if !ok && path == "HyperParameters" {
			raw, err := json.Marshal(item)
			if err != nil {
				return fmt.Errorf("a value of %s cannot be written as JSON", path)
			}
			text, ok = string(raw), true
		}
		if !ok {
			return fmt.Errorf("the values of %s must be strings: put quotes around numbers and true or false", path)
		}
		into.SetMapIndex(reflect.ValueOf(key), reflect.ValueOf(text))
	}
	return nil
}

func scalar(path string, v any, into reflect.Value) error {
	switch into.Kind() {
	case reflect.String:
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("%s must be a string", path)
		}
		into.SetString(text)
		return checkEnum(path, into)
	case reflect.Bool:
		on, ok := v.(bool)
		if !ok {
			return fmt.Errorf("%s must be true or false", path)
		}
		into.SetBool(on)
	case reflect.Int32, reflect.Int64:
		n, err := integer(v)
		if err != nil || into.OverflowInt(n) {
			return fmt.Errorf("%s must be a whole number", path)
		}
		into.SetInt(n)
	case reflect.Float32, reflect.Float64:
		n, err := strconv.ParseFloat(fmt.Sprint(v), 64)
		if err != nil {
			return fmt.Errorf("%s must be a number", path)
		}
		into.SetFloat(n)
	default:
		return fmt.Errorf("%s cannot be set in a spec", path)
	}
	return nil
}

func integer(v any) (int64, error) {
	switch n := v.(type) {
	case json.Number:
		return n.Int64()
	case int:
		return int64(n), nil
	case int64:
		return n, nil
	case float64:
		if n == math.Trunc(n) && math.Abs(n) < 1<<53 {
			return int64(n), nil
		}
	}
	return 0, errors.New("not a whole number")
}

// checkEnum holds a string of an SDK enum to its values. Instance types are
// more than the SDK knows: judge looks at them.
func checkEnum(path string, v reflect.Value) error {
	method := v.MethodByName("Values")
	if !method.IsValid() || strings.HasSuffix(path, "InstanceType") {
		return nil
	}
	values := method.Call(nil)[0]
	var allowed []string
	for i := range values.Len() {
		allowed = append(allowed, values.Index(i).String())
	}
	if !slices.Contains(allowed, v.String()) {
		return fmt.Errorf("%s has a value that AWS does not know: allowed is %s", path, strings.Join(allowed, ", "))
	}
	return nil
}

func isAPIField(f reflect.StructField) bool {
	return f.IsExported() && !f.Anonymous && f.Name != "ResultMetadata"
}

func fieldNames(t reflect.Type) []string {
	var all []string
	for f := range t.Fields() {
		if isAPIField(f) {
			all = append(all, f.Name)
		}
	}
	return all
}

// walk visits every scalar that is set in a request, with its path without
// list positions, and every map once.
func walk(v reflect.Value, path string, visit func(path string, v reflect.Value) error) error {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return walk(v.Elem(), path, visit)
	case reflect.Struct:
		for f, field := range v.Fields() {
			if !isAPIField(f) {
				continue
			}
			if err := walk(field, join(path, f.Name), visit); err != nil {
				return err
			}
		}
		return nil
	case reflect.Slice:
		for i := range v.Len() {
			if err := walk(v.Index(i), path, visit); err != nil {
				return err
			}
		}
		return nil
	case reflect.Map:
		if v.Len() == 0 {
			return nil
		}
	case reflect.String:
		// Only an enum is a plain string; empty, it is not set.
		if v.Len() == 0 && v.Type() != reflect.TypeFor[string]() {
			return nil
		}
	}
	return visit(path, v)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func orTop(path string) string {
	if path == "" {
		return "the top level"
	}
	return path
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
