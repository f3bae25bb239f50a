// Package model checks requests against AWS's own API models: required members,
// types, lengths, ranges, patterns and enumerations, with the messages that AWS
// answers.
//
// The models are botocore's, reduced to what inputs are checked against; see
// generate.py and NOTICE.
package model

import (
	"bytes"
	"compress/zlib"
	_ "embed" // api.json.zz
	"encoding/json"
	"fmt"
	"sync"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/rpc"
)

//go:generate ../../../build/venv/bin/python -B generate.py api.json.zz

//go:embed api.json.zz
var packed []byte

// api is what api.json.zz holds.
type api struct {
	Botocore string              `json:"botocore"`
	Services map[string]*service `json:"services"`
}

type service struct {
	Protocol   string            `json:"protocol"`
	Operations map[string]string `json:"operations"` // operation to input shape, "" for none
	Shapes     map[string]*shape `json:"shapes"`
}

// shape is a type of the API with its constraints.
type shape struct {
	Type      string            `json:"type"`
	Required  []string          `json:"required"`
	Members   map[string]string `json:"members"`
	Member    string            `json:"member"`
	Key       string            `json:"key"`
	Value     string            `json:"value"`
	Min       *json.Number      `json:"min"`
	Max       *json.Number      `json:"max"`
	Pattern   string            `json:"pattern"`
	Enum      []string          `json:"enum"`
	Union     bool              `json:"union"`
	Flattened bool              `json:"flattened"`
}

var load = sync.OnceValues(func() (*api, error) {
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("unpack the API models: %w", err)
	}
	a := &api{}
	if err := json.NewDecoder(r).Decode(a); err != nil {
		return nil, fmt.Errorf("read the API models: %w", err)
	}
	return a, nil
})

// invalidCodes are the codes that a service answers a violated constraint with,
// where that is not ValidationException.
var invalidCodes = map[string]string{
	"logs": "InvalidParameterException",
	"sts":  "ValidationError",
}

// lookup returns the service and the input shape of an operation; the shape is
// nil when the operation takes no input.
func lookup(name, operation string) (*service, *shape, error) {
	a, err := load()
	if err != nil {
		return nil, nil, err
	}
	s := a.Services[name]
	if s == nil {
		return nil, nil, fmt.Errorf("the API models do not have the service %q", name)
	}
	input, ok := s.Operations[operation]
	if !ok {
		return nil, nil, rpc.Errorf("UnknownOperationException", "%s has no operation %q", name, operation)
	}
	return s, s.Shapes[input], nil
}

// Validate checks the body of a JSON request. service is the credential scope's
// name ("sagemaker"), operation the API's ("CreateTrainingJob"). Unknown members
// are ignored, as AWS does; see Unknown. An error is an *rpc.Error that reads
// like AWS's.
func Validate(service, operation string, body []byte) error {
	s, input, err := lookup(service, operation)
	if err != nil {
		return err
	}
	value, err := decode(body)
	if err != nil || input == nil {
		return err
	}
	return s.check(service, input, value)
}

func (s *service) check(name string, input *shape, value map[string]any) error {
	c := checker{service: s}
	if err := c.check(input, "", value); err != nil {
		return err
	}
	if len(c.violations) == 0 {
		return nil
	}
	code := invalidCodes[name]
	if code == "" {
		code = "ValidationException"
	}
	return c.failure(code)
}

func decode(body []byte) (map[string]any, error) {
	if body = bytes.TrimSpace(body); len(body) == 0 {
		return map[string]any{}, nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var value map[string]any
	if err := d.Decode(&value); err != nil {
		return nil, rpc.Errorf("SerializationException", "the request is not a JSON object: %v", err)
	}
	return value, nil
}

// Unknown returns the paths of members that the API does not have. AWS ignores
// them; a request of our own should have none.
func Unknown(service, operation string, body []byte) ([]string, error) {
	s, input, err := lookup(service, operation)
	if err != nil {
		return nil, err
	}
	value, err := decode(body)
	if err != nil || input == nil {
		return nil, err
	}
	return s.unknown(input, "", value), nil
}

func (s *service) unknown(sh *shape, path string, value any) []string {
	var found []string
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			switch {
			case sh.Type == "map":
				found = append(found, s.unknown(s.Shapes[sh.Value], path+"."+name, member)...)
			case sh.Type == "structure" && sh.Members[name] == "":
				found = append(found, trimDot(path+"."+name))
			case sh.Type == "structure":
				found = append(found, s.unknown(s.Shapes[sh.Members[name]], path+"."+name, member)...)
			}
		}
	case []any:
		if sh.Type == "list" {
			for i, member := range v {
				found = append(found, s.unknown(s.Shapes[sh.Member], fmt.Sprintf("%s[%d]", path, i), member)...)
			}
		}
	}
	return found
}
