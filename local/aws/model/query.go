package model

import (
	"encoding/json"
	"net/url"
	"strconv"
)

// ValidateQuery checks a request of the Query protocol.
func ValidateQuery(service, operation string, form url.Values) error {
	s, input, err := lookup(service, operation)
	if err != nil || input == nil {
		return err
	}
	value, _ := s.parse(input, "", form).(map[string]any)
	if value == nil {
		value = map[string]any{}
	}
	return s.check(service, input, value)
}

// parse reads a value of a form: nested members are joined with dots, list
// entries are NAME.member.1 and so on. Absent ones are nil.
func (s *service) parse(sh *shape, name string, form url.Values) any {
	switch sh.Type {
	case "structure":
		members := map[string]any{}
		for member, shape := range sh.Members {
			if v := s.parse(s.Shapes[shape], trimDot(name+"."+member), form); v != nil {
				members[member] = v
			}
		}
		if len(members) > 0 {
			return members
		}
		return nil
	case "list":
		prefix := name + ".member."
		if sh.Flattened {
			prefix = name + "."
		}
		var list []any
		for i := 1; ; i++ {
			v := s.parse(s.Shapes[sh.Member], prefix+strconv.Itoa(i), form)
			if v == nil {
				break
			}
			list = append(list, v)
		}
		if list == nil {
			return nil
		}
		return list
	}
	if !form.Has(name) {
		return nil
	}
	text := form.Get(name)
	switch sh.Type {
	case "integer", "long", "float", "double":
		return json.Number(text)
	case "boolean":
		return text == "true"
	}
	return text
}
