package ci

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Retry is retry:.
type Retry struct {
	Max       int
	When      []string // failure reasons; empty or "always": any
	ExitCodes []int
}

// Wants reports whether a job that failed for the reason, with the exit code,
// is tried again after so many retries.
func (r Retry) Wants(retries int, reason string, exitCode int) bool {
	if retries >= r.Max {
		return false
	}
	if len(r.When) == 0 && len(r.ExitCodes) == 0 {
		return true
	}
	return slices.Contains(r.When, "always") || slices.Contains(r.When, retryWord(reason)) ||
		(exitCode != 0 && slices.Contains(r.ExitCodes, exitCode))
}

// retryWord is the word of retry:when for a failure reason of the runner's.
func retryWord(reason string) string {
	switch reason {
	case "image_pull_failure", "runner_external_dependency_failure":
		return "runner_system_failure"
	case "runner_configuration_error":
		return "script_failure"
	case "runner_interrupted":
		return "unknown_failure"
	default:
		return reason
	}
}

func readRetry(n *node) (Retry, error) {
	var r Retry
	if n.kind != mapping {
		var err error
		r.Max, err = readRetryMax(n)
		return r, err
	}
	err := n.read(keywords{
		"max": into(&r.Max, readRetryMax),
		"when": func(n *node) error {
			words, err := n.flatTexts()
			if err != nil {
				return err
			}
			for _, word := range words {
				if !slices.Contains(retryWords, word) {
					return n.errorf("is %q, allowed is %s", word, strings.Join(retryWords, ", "))
				}
			}
			r.When = words
			return nil
		},
		"exit_codes": into(&r.ExitCodes, readExitCodes),
	})
	return r, err
}

func readRetryMax(n *node) (int, error) {
	number, err := n.integer()
	if err == nil && (number < 0 || number > 2) {
		err = n.errorf("is %d, allowed is 0, 1 or 2", number)
	}
	return number, err
}

// retryWords are GitLab's (Gitlab::Ci::Config::Entry::Retry).
var retryWords = []string{
	"always", "unknown_failure", "script_failure", "api_failure", "stuck_or_timeout_failure",
	"runner_system_failure", "runner_unsupported", "stale_schedule", "job_execution_timeout",
	"archived_failure", "unmet_prerequisites", "scheduler_failure", "data_integrity_failure",
}

var durationPart = regexp.MustCompile(`^\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*(?:,|and\b)?`)

// unitSeconds are the units of ChronicDuration, which GitLab reads durations
// with: a month has 30 days.
var unitSeconds = map[string]float64{
	"": 1, "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1,
	"m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
	"h": 3600, "hr": 3600, "hrs": 3600, "hour": 3600, "hours": 3600,
	"d": 86400, "day": 86400, "days": 86400,
	"w": 604800, "wk": 604800, "week": 604800, "weeks": 604800,
	"mo": 2592000, "mos": 2592000, "month": 2592000, "months": 2592000,
	"y": 31557600, "yr": 31557600, "yrs": 31557600, "year": 31557600, "years": 31557600,
}

// readDuration reads "1h 30m", "3 hours 30 minutes", "90" into seconds.
func readDuration(n *node) (int, error) {
	text, err := n.text()
	if err != nil {
		return 0, err
	}
	seconds, rest := 0.0, text
	for strings.TrimSpace(rest) != "" {
		part := durationPart.FindStringSubmatch(rest)
		if part == nil {
			return 0, n.errorf("%q is no duration; write it as 1h 30m", text)
		}
		unit, known := unitSeconds[strings.ToLower(part[2])]
		if !known {
			return 0, n.errorf("%q is no duration; write it as 1h 30m", text)
		}
		amount, _ := strconv.ParseFloat(part[1], 64)
		seconds += amount * unit
		rest = rest[len(part[0]):]
	}
	if seconds < 1 {
		return 0, n.errorf("%q is no duration; write it as 1h 30m", text)
	}
	return int(seconds), nil
}
