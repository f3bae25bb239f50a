package iam

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true},
		{"*", "", true},
		{"*", "a/b", true},
		{"a*", "ba", false},
		{"a*c", "abcbc", true},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"*a*b*", "xxaxxbxx", true},
		{"*a*b*", "xxbxxaxx", false},
		{"a", "ab", false},
	} {
		require.Equal(t, c.want, Match(c.pattern, c.text), "%q %q", c.pattern, c.text)
	}
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	ctx := Context{}
	ctx.Set("aws:PrincipalTag/project", "7")
	ctx.Set("s3:prefix", "jobs/7/x")
	ctx.Set("aws:TagKeys", "a", "b")
	ctx.Set("wild", "*")
	get := Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/jobs/7/k", Context: ctx}
	for name, c := range map[string]struct {
		statements string
		want       Decision
	}{
		"allowed":                   {`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"}`, Allowed},
		"nothing":                   {`{"Effect":"Allow","Action":"s3:PutObject","Resource":"*"}`, Denied},
		"other resource":            {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::b"}`, Denied},
		"action's case, wildcard":   {`{"Effect":"Allow","Action":["s3:getO*"],"Resource":["x","*"]}`, Allowed},
		"deny wins":                 {`[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"s3:Get*","Resource":"*"}]`, ExplicitlyDenied},
		"not action":                {`{"Effect":"Allow","NotAction":"s3:Put*","Resource":"*"}`, Allowed},
		"not resource":              {`{"Effect":"Allow","Action":"*","NotResource":"arn:aws:s3:::b/*"}`, Denied},
		"variable":                  {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::b/jobs/${aws:PrincipalTag/project}/*"}`, Allowed},
		"missing variable":          {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::b/jobs/${aws:PrincipalTag/none}*"}`, Denied},
		"variable with a default":   {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::b/${none, 'jobs'}/7/k"}`, Allowed},
		"a value is no wildcard":    {`{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::b/${wild}"}`, Denied},
		"string equals":             {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:principaltag/PROJECT":["6","7"]}}}`, Allowed},
		"equals has no wildcards":   {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"s3:prefix":"jobs/*"}}}`, Denied},
		"string like":               {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"s3:prefix":"jobs/${aws:PrincipalTag/project}/*"}}}`, Allowed},
		"not equals":                {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"s3:prefix":"x"}}}`, Allowed},
		"missing key":               {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"none":"x"}}}`, Denied},
		"missing key, if exists":    {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEqualsIfExists":{"none":"x"}}}`, Allowed},
		"missing key, negated":      {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringNotLike":{"none":"x"}}}`, Allowed},
		"any value":                 {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"aws:TagKeys":["b","c"]}}}`, Allowed},
		"all values":                {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["b","c"]}}}`, Denied},
		"null":                      {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Null":{"none":"true","s3:prefix":"false"}}}`, Allowed},
		"both conditions must hold": {`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"s3:prefix":"jobs/7/x","none":"x"}}}`, Denied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := Parse([]byte(`{"Version":"2012-10-17","Statement":` + c.statements + `}`))
			require.NoError(t, err)
			require.Equal(t, c.want, Evaluate(get, p))
		})
	}
}

func TestEvaluateTrust(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		principal, from string
		want            Decision
	}{
		"service":         {`{"Service":"sagemaker.amazonaws.com"}`, "Service:sagemaker.amazonaws.com", Allowed},
		"other service":   {`{"Service":"ec2.amazonaws.com"}`, "Service:sagemaker.amazonaws.com", Denied},
		"account":         {`{"AWS":"arn:aws:iam::123456789012:root"}`, "AWS:arn:aws:iam::123456789012:user/x", Allowed},
		"account's id":    {`{"AWS":["123456789012"]}`, "AWS:arn:aws:sts::123456789012:assumed-role/r/s", Allowed},
		"other account":   {`{"AWS":"210987654321"}`, "AWS:arn:aws:iam::123456789012:user/x", Denied},
		"everyone":        {`"*"`, "AWS:arn:aws:iam::123456789012:user/x", Allowed},
		"kinds are apart": {`{"AWS":"*"}`, "Service:sagemaker.amazonaws.com", Denied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := Parse([]byte(`{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":` + c.principal + `}}`))
			require.NoError(t, err)
			require.Equal(t, c.want, EvaluateTrust(Request{Action: "sts:AssumeRole", Principals: []string{c.from}}, p))
		})
	}
}

func TestParseRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for name, document := range map[string]string{
		"no JSON":      `{`,
		"no statement": `{}`,
		"member":       `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Resuorce":"*"}}`,
		"effect":       `{"Statement":{"Effect":"allow","Action":"*","Resource":"*"}}`,
		"operator":     `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}}`,
		"set":          `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForSome:StringEquals":{"a":"b"}}}}`,
		"action":       `{"Statement":{"Effect":"Allow","Resource":"*"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(document))
			require.Error(t, err)
		})
	}
}
