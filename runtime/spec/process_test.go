package spec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestProcess(t *testing.T) {
	list := func(v ...string) []string { return v }
	tryEach(t, func(s *specs.Spec) any { return s.Process.Args }, map[string]outcome{
		"the image decides":                        {in: on(runs(list("e"), list("c"), nil, nil)), want: "[e c]"},
		"command drops the image's cmd":            {in: on(runs(list("e"), list("c"), list("x"), nil)), want: "[x]"},
		"args replace the image's cmd":             {in: on(runs(list("e"), list("c"), nil, list("a", "b"))), want: "[e a b]"},
		"command and args":                         {in: on(runs(list("e"), list("c"), list("x"), list("a"))), want: "[x a]"},
		"args alone":                               {in: on(runs(nil, nil, nil, list("a"))), want: "[a]"},
		"image with cmd only":                      {in: on(runs(nil, list("c"), nil, nil)), want: "[c]"},
		"reset entrypoint":                         {in: on(runs(list(""), list("c"), nil, nil)), want: "[c]"},
		"empty arguments stay":                     {in: on(runs(nil, nil, list("x"), list("", "b"))), want: "[x  b]"},
		"nothing at all":                           {in: on(runs(nil, nil, nil, nil)), kind: errdefs.IsInvalidArgument, want: "nothing to run"},
		"an empty command":                         {in: on(runs(nil, nil, list(""), nil)), kind: errdefs.IsInvalidArgument, want: "command is empty"},
		"reset entrypoint and no cmd":              {in: on(runs(list(""), nil, nil, nil)), kind: errdefs.IsInvalidArgument, want: "nothing to run"},
		"an argument longer than the kernel takes": {in: on(runs(nil, nil, list("x", strings.Repeat("a", maxString)), nil)), kind: errdefs.IsInvalidArgument, want: "command[1]"},
	})
	tryEach(t, func(s *specs.Spec) any { return s.Process.Cwd }, map[string]outcome{
		"no directory":            {in: on(), want: "/"},
		"the image's":             {in: on(func(in *Input) { in.Image.WorkingDir = "/srv" }), want: "/srv"},
		"the image's, relative":   {in: on(func(in *Input) { in.Image.WorkingDir = "srv" }), want: "/srv"},
		"the request's":           {in: on(func(in *Input) { in.Image.WorkingDir, in.Config.WorkingDir = "/srv", "/w" }), want: "/w"},
		"the request's, relative": {in: on(func(in *Input) { in.Config.WorkingDir = "w" }), kind: errdefs.IsInvalidArgument, want: "working_dir"},
	})
}

func TestEnvironment(t *testing.T) {
	const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	set := func(kv ...string) func(*Input) {
		return func(in *Input) {
			in.Image.Env = nil
			for i := 0; i < len(kv); i += 2 {
				in.Config.Envs = append(in.Config.Envs, &runtimeapi.KeyValue{Key: kv[i], Value: []byte(kv[i+1])})
			}
		}
	}
	image := func(env ...string) func(*Input) { return func(in *Input) { in.Image.Env = env } }
	show := func(s *specs.Spec) any { return strings.Join(s.Process.Env, " ") }
	tryEach(t, show, map[string]outcome{
		"nothing set":                  {in: on(set()), want: "PATH=" + path + " HOSTNAME=web-0 HOME=/"},
		"a terminal":                   {in: on(set(), func(in *Input) { in.Config.Tty = true }), want: "PATH=" + path + " TERM=xterm HOSTNAME=web-0 HOME=/"},
		"a pod without hostname":       {in: on(set(), func(in *Input) { in.Pod.Config.Hostname = "" }), want: "PATH=" + path + " HOSTNAME=node1 HOME=/"},
		"the image's PATH":             {in: on(set(), image("PATH=/bin")), want: "PATH=/bin HOSTNAME=web-0 HOME=/"},
		"the request beats the image":  {in: on(set("A", "2", "HOSTNAME", "h"), image("A=1")), want: "PATH=" + path + " HOSTNAME=h A=2 HOME=/"},
		"the last of two wins":         {in: on(set("A", "1", "A", "2")), want: "PATH=" + path + " HOSTNAME=web-0 A=2 HOME=/"},
		"an entry without =":           {in: on(set(), image("PATH", "B")), want: "HOSTNAME=web-0 HOME=/"},
		"the user's home":              {in: on(set(), func(in *Input) { in.User.Home = "/home/x" }), want: "PATH=" + path + " HOSTNAME=web-0 HOME=/home/x"},
		"a home that the request gave": {in: on(set("HOME", ""), func(in *Input) { in.User.Home = "/home/x" }), want: "PATH=" + path + " HOSTNAME=web-0 HOME="},
		"bytes that are no UTF-8":      {in: on(set("A", "\xff\xfe")), want: "PATH=" + path + " HOSTNAME=web-0 A=\xff\xfe HOME=/"},
		"a value with = and newline":   {in: on(set("A", "x=y\nz")), want: "PATH=" + path + " HOSTNAME=web-0 A=x=y\nz HOME=/"},
		"a NUL byte":                   {in: on(set("A", "x\x00")), kind: errdefs.IsInvalidArgument, want: "envs[0]"},
		"a name with =":                {in: on(set("A=B", "x")), kind: errdefs.IsInvalidArgument, want: "envs[0].key"},
		"no name":                      {in: on(set("", "x")), kind: errdefs.IsInvalidArgument, want: "envs[0].key"},
	})
}

func TestUser(t *testing.T) {
	show := func(s *specs.Spec) any { u := s.Process.User; return fmt.Sprint(u.UID, u.GID, u.AdditionalGids) }
	with := func(u User, groups ...int64) func(*Input) {
		return func(in *Input) { in.User, in.Config.Linux.SecurityContext.SupplementalGroups = u, groups }
	}
	tryEach(t, show, map[string]outcome{
		"root":                              {in: on(), want: "0 0 [0]"},
		"groups of the image":               {in: on(with(User{UID: 5, GID: 6, AdditionalGids: []uint32{6, 7}})), want: "5 6 [6 7]"},
		"groups that nobody resolved":       {in: on(with(User{UID: 5, GID: 6}, 8, 6)), want: "5 6 [6 8]"},
		"groups that are resolved already":  {in: on(with(User{UID: 5, GID: 6, AdditionalGids: []uint32{6, 8}}, 8)), want: "5 6 [6 8]"},
		"a group that the kernel cannot do": {in: on(with(User{}, 1<<32-1)), kind: errdefs.IsInvalidArgument, want: "supplemental_groups[0]"},
		"a group without a user": {in: on(secure(func(s *security) { s.RunAsGroup = &runtimeapi.Int64Value{Value: 1} })),
			kind: errdefs.IsInvalidArgument, want: "run_as_group"},
		"a user by id and by name": {in: on(secure(func(s *security) { s.RunAsUser, s.RunAsUsername = &runtimeapi.Int64Value{Value: 1}, "x" })),
			kind: errdefs.IsInvalidArgument, want: "run_as_username"},
		"a group with a user name": {in: on(secure(func(s *security) { s.RunAsUsername, s.RunAsGroup = "x", &runtimeapi.Int64Value{Value: 1} })), want: "0 0 [0]"},
	})
}
