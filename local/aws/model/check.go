package model

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/rpc"
)

// checker collects what a request violates. A wrong type is no violation: AWS
// cannot even read such a request and answers SerializationException at once.
type checker struct {
	service    *service
	violations []string
}

func (c *checker) failure(code string) error {
	plural := "s"
	if len(c.violations) == 1 {
		plural = ""
	}
	return rpc.Errorf(code, "%d validation error%s detected: %s", len(c.violations), plural, strings.Join(c.violations, "; "))
}

func (c *checker) violate(value any, path, constraint string) {
	c.violations = append(c.violations, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: %s", show(value), path, constraint))
}

// show writes a value as AWS's framework, in Java, does.
func show(value any) string {
	if value == nil {
		return "null"
	}
	return "'" + javaString(value) + "'"
}

func javaString(value any) string {
	switch v := value.(type) {
	case map[string]any:
		parts := make([]string, 0, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, k+"="+javaString(v[k]))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = javaString(e)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return fmt.Sprint(value)
}

func trimDot(path string) string { return strings.TrimPrefix(path, ".") }

// lowerFirst makes a member's name the one in AWS's messages: trainingJobName.
func lowerFirst(name string) string {
	r := []rune(name)
	if len(r) > 0 {
		r[0] = unicode.ToLower(r[0])
	}
	return string(r)
}

func (c *checker) check(s *shape, path string, value any) error {
	if s == nil || value == nil {
		return nil
	}
	switch s.Type {
	case "structure":
		return c.structure(s, path, value)
	case "list":
		return c.list(s, path, value)
	case "map":
		return c.mapping(s, path, value)
	}
	if err := c.scalar(s, path, value); err != nil {
		return err
	}
	for _, constraint := range constraints(s, value) {
		c.violate(value, trimDot(path), constraint)
	}
	return nil
}

func mismatch(path, got, want string) error {
	return rpc.Errorf("SerializationException", "%s can not be converted to %s at '%s'", got, want, trimDot(path))
}

func kind(value any) string {
	switch value.(type) {
	case string:
		return "STRING_VALUE"
	case json.Number:
		return "NUMBER_VALUE"
	case bool:
		return "BOOLEAN_VALUE"
	case []any:
		return "START_ARRAY"
	}
	return "START_OBJECT"
}

func (c *checker) structure(s *shape, path string, value any) error {
	members, ok := value.(map[string]any)
	if !ok {
		return mismatch(path, kind(value), "a structure")
	}
	for _, name := range s.Required {
		if members[name] == nil {
			c.violate(nil, trimDot(path+"."+lowerFirst(name)), "Member must not be null")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if err := c.check(c.service.Shapes[s.Members[name]], path+"."+lowerFirst(name), members[name]); err != nil {
			return err
		}
	}
	if set := len(members); s.Union && set > 1 {
		return rpc.Errorf("SerializationException", "Unions must have exactly one member set, got %d at '%s'", set, trimDot(path))
	}
	return nil
}

func (c *checker) list(s *shape, path string, value any) error {
	members, ok := value.([]any)
	if !ok {
		return mismatch(path, kind(value), "a list")
	}
	for _, constraint := range sizes(s, len(members)) {
		c.violate(value, trimDot(path), constraint)
	}
	for i, member := range members {
		if err := c.check(c.service.Shapes[s.Member], fmt.Sprintf("%s.%d.member", path, i+1), member); err != nil {
			return err
		}
	}
	return nil
}

// mapping checks a map. Its keys' and values' violations are told of the map as
// a whole, with all constraints of the key or value.
func (c *checker) mapping(s *shape, path string, value any) error {
	members, ok := value.(map[string]any)
	if !ok {
		return mismatch(path, kind(value), "a map")
	}
	for _, constraint := range sizes(s, len(members)) {
		c.violate(value, trimDot(path), constraint)
	}
	keys, values := c.service.Shapes[s.Key], c.service.Shapes[s.Value]
	badKey, badValue := false, false
	for _, name := range slices.Sorted(maps.Keys(members)) {
		badKey = badKey || len(constraints(keys, name)) > 0
		switch values.Type {
		case "structure", "list", "map":
			if err := c.check(values, path+"."+name+".member", members[name]); err != nil {
				return err
			}
		default:
			if members[name] == nil {
				continue
			}
			if err := c.scalar(values, path+"."+name, members[name]); err != nil {
				return err
			}
			badValue = badValue || len(constraints(values, members[name])) > 0
		}
	}
	if badKey {
		c.violate(value, trimDot(path), "Map keys must satisfy constraint: ["+strings.Join(all(keys), ", ")+"]")
	}
	if badValue {
		c.violate(value, trimDot(path), "Map value must satisfy constraint: ["+strings.Join(all(values), ", ")+"]")
	}
	return nil
}

// scalar checks a value's type.
func (c *checker) scalar(s *shape, path string, value any) error {
	switch s.Type {
	case "string":
		if _, ok := value.(string); !ok {
			return mismatch(path, kind(value), "a String")
		}
	case "integer", "long":
		n, ok := value.(json.Number)
		if !ok {
			return mismatch(path, kind(value), "an Integer")
		}
		limit := int64(math.MaxInt64)
		if s.Type == "integer" {
			limit = math.MaxInt32
		}
		if i, err := n.Int64(); err != nil || i > limit || i < -limit-1 {
			return mismatch(path, n.String(), "an Integer")
		}
	case "float", "double":
		if _, ok := value.(json.Number); !ok && value != "NaN" && value != "Infinity" && value != "-Infinity" {
			return mismatch(path, kind(value), "a Float")
		}
	case "boolean":
		if _, ok := value.(bool); !ok {
			return mismatch(path, kind(value), "a Boolean")
		}
	case "timestamp":
		switch v := value.(type) {
		case json.Number:
		case string:
			if _, err := time.Parse(time.RFC3339, v); err != nil {
				return mismatch(path, kind(value), "a Timestamp")
			}
		default:
			return mismatch(path, kind(value), "a Timestamp")
		}
	case "blob":
		text, ok := value.(string)
		if _, err := base64.StdEncoding.DecodeString(text); !ok || err != nil {
			return mismatch(path, kind(value), "a Blob")
		}
	}
	return nil
}

// constraints returns those that a scalar violates.
func constraints(s *shape, value any) []string {
	switch v := value.(type) {
	case string:
		if s.Type == "blob" {
			return sizes(s, base64.StdEncoding.DecodedLen(len(v)))
		}
		if s.Type != "string" {
			return nil
		}
		violated := sizes(s, len(utf16.Encode([]rune(v)))) // Java counts UTF-16 units
		if s.Pattern != "" && !matches(s.Pattern, v) {
			violated = append(violated, "Member must satisfy regular expression pattern: "+s.Pattern)
		}
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			violated = append(violated, "Member must satisfy enum value set: ["+strings.Join(s.Enum, ", ")+"]")
		}
		return violated
	case json.Number:
		var violated []string
		if s.Min != nil && less(v, *s.Min) {
			violated = append(violated, "Member must have value greater than or equal to "+s.Min.String())
		}
		if s.Max != nil && less(*s.Max, v) {
			violated = append(violated, "Member must have value less than or equal to "+s.Max.String())
		}
		return violated
	}
	return nil
}

func less(a, b json.Number) bool {
	x, ok1 := new(big.Float).SetString(a.String())
	y, ok2 := new(big.Float).SetString(b.String())
	return ok1 && ok2 && x.Cmp(y) < 0
}

// sizes returns the violated limits of a length.
func sizes(s *shape, n int) []string {
	var violated []string
	length := json.Number(fmt.Sprint(n))
	if s.Max != nil && less(*s.Max, length) {
		violated = append(violated, "Member must have length less than or equal to "+s.Max.String())
	}
	if s.Min != nil && less(length, *s.Min) {
		violated = append(violated, "Member must have length greater than or equal to "+s.Min.String())
	}
	return violated
}

// all returns every constraint of a string.
func all(s *shape) []string {
	var list []string
	if s.Max != nil {
		list = append(list, "Member must have length less than or equal to "+s.Max.String())
	}
	if s.Min != nil {
		list = append(list, "Member must have length greater than or equal to "+s.Min.String())
	}
	if s.Pattern != "" {
		list = append(list, "Member must satisfy regular expression pattern: "+s.Pattern)
	}
	if len(s.Enum) > 0 {
		list = append(list, "Member must satisfy enum value set: ["+strings.Join(s.Enum, ", ")+"]")
	}
	return list
}
