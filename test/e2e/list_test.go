package e2e

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podNames are the pods of a filter, sorted.
func (n *node) podNames(f *runtimeapi.PodSandboxFilter) []string {
	n.t.Helper()
	r, err := n.rt.ListPodSandbox(n.ctx(), &runtimeapi.ListPodSandboxRequest{Filter: f})
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for _, p := range r.Items {
		names = append(names, p.Metadata.Name)
	}
	slices.Sort(names)
	return names
}

// containerNames are the containers of a filter, sorted.
func (n *node) containerNames(f *runtimeapi.ContainerFilter) []string {
	n.t.Helper()
	r, err := n.rt.ListContainers(n.ctx(), &runtimeapi.ListContainersRequest{Filter: f})
	if err != nil {
		n.t.Fatal(err)
	}
	var names []string
	for _, c := range r.Containers {
		names = append(names, c.Metadata.Name)
	}
	slices.Sort(names)
	return names
}

func TestListFilters(t *testing.T) {
	n := newNode(t)
	n.pull(busybox)
	labels := func(kv ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return m
	}
	pod := func(name string, l map[string]string) string {
		return n.pod(n.podConfig(name, hostNetwork, func(c *runtimeapi.PodSandboxConfig) { c.Labels = l }))
	}
	one := pod("one", labels("app", "a", "tier", "front"))
	two := pod("two", labels("app", "a", "tier", "back"))
	three := pod("three", labels("app", "b"))
	n.stopPod(three)
	labelled := func(name, script string, l map[string]string) *runtimeapi.ContainerConfig {
		return containerConfig(name, script, func(c *runtimeapi.ContainerConfig) { c.Labels = l })
	}
	runs := n.run(one, labelled("runs", "sleep 1000", labels("k", "v", "x", "1")))
	done := n.run(one, labelled("done", "true", labels("k", "v", "x", "2")))
	n.wait(done)
	if _, err := n.create(one, labelled("new", "true", labels("k", "w"))); err != nil {
		t.Fatal(err)
	}
	n.run(two, labelled("other", "sleep 1000", labels("k", "v")))

	ready := &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_READY}
	notReady := &runtimeapi.PodSandboxStateValue{State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY}
	for name, tc := range map[string]struct {
		filter *runtimeapi.PodSandboxFilter
		want   string
	}{
		"none":                    {nil, "one three two"},
		"empty":                   {&runtimeapi.PodSandboxFilter{}, "one three two"},
		"id":                      {&runtimeapi.PodSandboxFilter{Id: one}, "one"},
		"prefix":                  {&runtimeapi.PodSandboxFilter{Id: one[:20]}, "one"},
		"unknown id":              {&runtimeapi.PodSandboxFilter{Id: strings.Repeat("0", 64)}, ""},
		"a container's id":        {&runtimeapi.PodSandboxFilter{Id: runs}, ""},
		"ready":                   {&runtimeapi.PodSandboxFilter{State: ready}, "one two"},
		"not ready":               {&runtimeapi.PodSandboxFilter{State: notReady}, "three"},
		"id, and another state":   {&runtimeapi.PodSandboxFilter{Id: one, State: notReady}, ""},
		"label":                   {&runtimeapi.PodSandboxFilter{LabelSelector: labels("app", "a")}, "one two"},
		"labels":                  {&runtimeapi.PodSandboxFilter{LabelSelector: labels("app", "a", "tier", "back")}, "two"},
		"label of another value":  {&runtimeapi.PodSandboxFilter{LabelSelector: labels("app", "c")}, ""},
		"empty value is a value":  {&runtimeapi.PodSandboxFilter{LabelSelector: labels("tier", "")}, ""},
		"all of it":               {&runtimeapi.PodSandboxFilter{Id: two, State: ready, LabelSelector: labels("tier", "back")}, "two"},
		"id, and another's label": {&runtimeapi.PodSandboxFilter{Id: one, LabelSelector: labels("tier", "back")}, ""},
	} {
		if got := strings.Join(n.podNames(tc.filter), " "); got != tc.want {
			t.Errorf("pods by %s: %q, want %q", name, got, tc.want)
		}
	}
	state := func(s runtimeapi.ContainerState) *runtimeapi.ContainerStateValue {
		return &runtimeapi.ContainerStateValue{State: s}
	}
	running, exited, created := state(runtimeapi.ContainerState_CONTAINER_RUNNING), state(runtimeapi.ContainerState_CONTAINER_EXITED), state(runtimeapi.ContainerState_CONTAINER_CREATED)
	for name, tc := range map[string]struct {
		filter *runtimeapi.ContainerFilter
		want   string
	}{
		"none":                      {nil, "done new other runs"},
		"id":                        {&runtimeapi.ContainerFilter{Id: runs}, "runs"},
		"prefix":                    {&runtimeapi.ContainerFilter{Id: runs[:16]}, "runs"},
		"unknown id":                {&runtimeapi.ContainerFilter{Id: strings.Repeat("0", 64)}, ""},
		"pod":                       {&runtimeapi.ContainerFilter{PodSandboxId: one}, "done new runs"},
		"prefix of pod":             {&runtimeapi.ContainerFilter{PodSandboxId: two[:16]}, "other"},
		"unknown pod":               {&runtimeapi.ContainerFilter{PodSandboxId: strings.Repeat("0", 64)}, ""},
		"a container's id as pod":   {&runtimeapi.ContainerFilter{PodSandboxId: runs}, ""},
		"pod without any":           {&runtimeapi.ContainerFilter{PodSandboxId: three}, ""},
		"id in another pod":         {&runtimeapi.ContainerFilter{Id: runs, PodSandboxId: two}, ""},
		"running":                   {&runtimeapi.ContainerFilter{State: running}, "other runs"},
		"exited":                    {&runtimeapi.ContainerFilter{State: exited}, "done"},
		"created":                   {&runtimeapi.ContainerFilter{State: created}, "new"},
		"running in a pod":          {&runtimeapi.ContainerFilter{State: running, PodSandboxId: one}, "runs"},
		"labels":                    {&runtimeapi.ContainerFilter{LabelSelector: labels("k", "v", "x", "1")}, "runs"},
		"labels of no container":    {&runtimeapi.ContainerFilter{LabelSelector: labels("k", "w", "x", "1")}, ""},
		"pod, state and label":      {&runtimeapi.ContainerFilter{PodSandboxId: one, State: exited, LabelSelector: labels("k", "v")}, "done"},
		"id and a state it has not": {&runtimeapi.ContainerFilter{Id: runs, State: exited}, ""},
	} {
		if got := strings.Join(n.containerNames(tc.filter), " "); got != tc.want {
			t.Errorf("containers by %s: %q, want %q", name, got, tc.want)
		}
	}
	_, err := n.rt.ListContainers(n.ctx(), &runtimeapi.ListContainersRequest{Filter: &runtimeapi.ContainerFilter{State: state(99)}})
	wantCode(t, "unknown state", err, codes.InvalidArgument, "state", "99")
}
