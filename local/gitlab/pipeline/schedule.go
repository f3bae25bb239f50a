package pipeline

import (
	"slices"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab/ci"
)

// States that only a pipeline knows, beside those of gitlab.State.
const (
	stateCreated gitlab.State = "created"
	stateSkipped gitlab.State = "skipped"
	stateManual  gitlab.State = "manual"
)

// task is a job on its way through the pipeline.
type task struct {
	job     *ci.Job
	number  int
	state   gitlab.State
	running *gitlab.Job // the last try
	retries int
	result  gitlab.Result
	kept    []string // what the user finds where, "model in DIR/model.tar.gz"
}

func (t *task) ended() bool {
	return t.state.Final() || t.state == stateSkipped || (t.state == stateManual && t.job.AllowFailure)
}

// failed reports a failure that the pipeline does not pass over.
func (t *task) failed() bool {
	return t.state == gitlab.StateFailed && !t.job.AllowsFailure(t.result.ExitCode)
}

// schedule decides what runs when, as GitLab's Ci::ProcessPipelineService and
// Gitlab::Ci::Status::Composite do.
type schedule struct {
	tasks  []*task
	byJob  map[*ci.Job]*task
	played []string
}

func newSchedule(jobs []*ci.Job, played []string) *schedule {
	s := &schedule{byJob: map[*ci.Job]*task{}, played: played}
	for i, job := range jobs {
		t := &task{job: job, number: i, state: stateCreated}
		s.tasks = append(s.tasks, t)
		s.byJob[job] = t
	}
	return s
}

// next takes the jobs that can start now; jobs that will not run are marked on
// the way.
func (s *schedule) next() []*task {
	var start []*task
	for changed := true; changed; {
		changed = false
		for _, t := range s.tasks {
			if t.state != stateCreated {
				continue
			}
			before := s.before(t)
			if slices.ContainsFunc(before, func(b *task) bool { return !b.ended() }) {
				continue
			}
			switch {
			case !wants(t.job, status(before, t.job.HasNeeds)):
				t.state = stateSkipped
			case t.job.When == "manual" && !slices.Contains(s.played, t.job.Name) && !slices.Contains(s.played, t.job.Group):
				t.state = stateManual
			case s.groupIsBusy(t.job.ResourceGroup):
				continue
			default:
				t.state = gitlab.StatePending
				start = append(start, t)
				continue
			}
			changed = true
		}
	}
	return start
}

// before are the tasks that a task waits for.
func (s *schedule) before(t *task) []*task {
	var before []*task
	if t.job.HasNeeds {
		for _, need := range t.job.Needs {
			before = append(before, s.byJob[need])
		}
		return before
	}
	for _, other := range s.tasks {
		if other.job.StageIndex < t.job.StageIndex {
			before = append(before, other)
		}
	}
	return before
}

func (s *schedule) groupIsBusy(group string) bool {
	return group != "" && slices.ContainsFunc(s.tasks, func(t *task) bool {
		return t.job.ResourceGroup == group && (t.state == gitlab.StatePending || t.state == gitlab.StateRunning)
	})
}

// status is the status of several ended tasks as one. With needs, one that was
// not run is enough for "skipped"; without, all must be.
func status(tasks []*task, needs bool) gitlab.State {
	var failed, canceled, idle int
	for _, t := range tasks {
		switch {
		case t.failed():
			failed++
		case t.state == gitlab.StateCanceled && !t.job.AllowFailure:
			canceled++
		case t.state == stateSkipped, t.state == stateManual:
			idle++
		}
	}
	switch {
	case needs && idle > 0, idle > 0 && idle == len(tasks):
		return stateSkipped
	case failed > 0:
		return gitlab.StateFailed
	case canceled > 0:
		return gitlab.StateCanceled
	default:
		return gitlab.StateSuccess
	}
}

// wants reports whether a job runs after jobs with that status
// (Ci::Processable: valid_statuses_for_build).
func wants(job *ci.Job, before gitlab.State) bool {
	switch job.When {
	case "on_failure":
		return before == gitlab.StateFailed
	case "always":
		return before != gitlab.StateCanceled
	case "manual":
		return before == gitlab.StateSuccess || before == stateSkipped
	default:
		return before == gitlab.StateSuccess || (before == stateSkipped && !job.HasNeeds)
	}
}

// blocked are manual jobs that the rest of the pipeline waits for.
func (s *schedule) blocked() []*task {
	return s.in(func(t *task) bool { return t.state == stateManual && !t.job.AllowFailure })
}

// failures are the jobs because of which the pipeline failed.
func (s *schedule) failures() []*task { return s.in((*task).failed) }

// canceled are the jobs that were cancelled.
func (s *schedule) canceled() []*task {
	return s.in(func(t *task) bool { return t.state == gitlab.StateCanceled && !t.job.AllowFailure })
}

func (s *schedule) in(accept func(*task) bool) []*task {
	var found []*task
	for _, t := range s.tasks {
		if accept(t) {
			found = append(found, t)
		}
	}
	return found
}
