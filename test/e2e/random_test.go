package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var randomMessages = flag.Int("random", 600, "messages that TestRandomRequests sends for each seed")

// Whatever a client sends, to whichever RPC, the answer is an error of a kind or
// a reply: no crash, nothing without a kind, nothing that stays.
func TestRandomRequests(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			n := newNode(t)
			r := &randomRequests{n: n, Rand: rand.New(rand.NewPCG(seed, 0))}
			r.prepare()
			methods := unaryMethods(t)
			for i := range *randomMessages {
				r.send(i, methods[r.IntN(len(methods))])
			}
			if name, _ := os.Hostname(); name != r.hostname {
				t.Errorf("the host is called %q now", name)
			}
			counts := map[codes.Code]int{}
			for _, c := range r.answers {
				counts[c]++
			}
			t.Log(counts)
			if counts[codes.OK] < len(r.answers)/10 || counts[codes.InvalidArgument] < len(r.answers)/10 {
				t.Errorf("the messages say little: %v", counts)
			}
		})
	}
}

// unaryMethods are those of both services, those with much to say many times.
func unaryMethods(t *testing.T) []protoreflect.MethodDescriptor {
	var all []protoreflect.MethodDescriptor
	for _, name := range []protoreflect.FullName{"runtime.v1.RuntimeService", "runtime.v1.ImageService"} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		if err != nil {
			t.Fatal(err)
		}
		methods := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			switch m := methods.Get(i); {
			case m.IsStreamingServer():
			case m.Name() == "RunPodSandbox", m.Name() == "CreateContainer":
				all = append(all, slices.Repeat([]protoreflect.MethodDescriptor{m}, 10)...)
			default:
				all = append(all, m)
			}
		}
	}
	return all
}

// randomRequests makes messages that are partly right: what is wrong all over is
// refused by the first check.
type randomRequests struct {
	n *node
	*rand.Rand
	hostname         string
	pods, containers []string
	attempt          uint32
	answers          []codes.Code
}

func (r *randomRequests) prepare() {
	r.hostname, _ = os.Hostname()
	r.n.pull(busybox)
	pod := r.n.pod(r.n.podConfig("base"))
	r.pods = []string{pod}
	r.containers = []string{r.n.run(pod, containerConfig("base", "sleep 1000; :"))}
	r.n.write("profile.json", `{"defaultAction":"SCMP_ACT_ALLOW"}`)
	r.n.write("file", "x")
}

func (r *randomRequests) send(i int, m protoreflect.MethodDescriptor) {
	request := r.request(m)
	ctx, cancel := context.WithTimeout(r.n.ctx(), 3*time.Second)
	defer cancel()
	reply := dynamicpb.NewMessage(m.Output())
	err := r.n.conn.Invoke(ctx, fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()), request, reply)
	r.judge(i, m, request, err)
	switch {
	case err != nil:
	case m.Name() == "CreateContainer": // most odd requests show when they are carried out
		r.note(reply)
		start := &runtimeapi.StartContainerRequest{ContainerId: r.containers[len(r.containers)-1]}
		_, err := r.n.rt.StartContainer(ctx, start)
		r.judge(i, m, request, err)
	case m.Name() == "RemoveImage":
		r.n.pull(busybox)
	default:
		r.note(reply)
	}
}

// judge fails the test at an answer that is a bug.
func (r *randomRequests) judge(i int, m protoreflect.MethodDescriptor, request proto.Message, err error) {
	code := status.Code(err)
	r.answers = append(r.answers, code)
	switch code {
	case codes.Internal, codes.Unavailable, codes.Unimplemented:
		unserved := code == codes.Unimplemented
		if unserved && (strings.HasPrefix(string(m.Name()), "Checkpoint") || m.Name() == "RestorePod" || strings.Contains(err.Error(), "not supported")) {
			return
		}
		r.fail(i, m, request, err)
	case codes.Unknown: // of the errors that the kubelet knows by their text
		if text := status.Convert(err).Message(); !strings.HasPrefix(text, "RegistryUnavailable") && !strings.HasPrefix(text, "ImageVolumeMountFailed") {
			r.fail(i, m, request, err)
		}
	}
}

func (r *randomRequests) fail(i int, m protoreflect.MethodDescriptor, request proto.Message, err error) {
	r.n.t.Errorf("message %d, %s: %v\n%.3000s", i, m.Name(), err, prototext.Format(request))
	if _, err := r.n.rt.Version(r.n.ctx(), &runtimeapi.VersionRequest{}); err != nil {
		r.n.t.Fatal("the daemon is gone: ", err)
	}
}

// note keeps the ids that replies name for later requests.
func (r *randomRequests) note(reply protoreflect.Message) {
	for field, to := range map[protoreflect.Name]*[]string{"pod_sandbox_id": &r.pods, "container_id": &r.containers} {
		if f := reply.Descriptor().Fields().ByName(field); f != nil && f.Kind() == protoreflect.StringKind {
			*to = append(*to, reply.Get(f).String())
		}
	}
}

// request is either valid but for a few fields, or random from top to bottom.
func (r *randomRequests) request(m protoreflect.MethodDescriptor) proto.Message {
	request := dynamicpb.NewMessage(m.Input())
	var valid proto.Message
	r.attempt++
	switch m.Name() {
	case "RunPodSandbox":
		cfg := r.n.podConfig(fmt.Sprintf("p%d", r.attempt))
		valid = &runtimeapi.RunPodSandboxRequest{Config: cfg}
	case "CreateContainer":
		cfg := containerConfig(fmt.Sprintf("c%d", r.attempt), "true")
		valid = &runtimeapi.CreateContainerRequest{PodSandboxId: r.pods[0], Config: cfg, SandboxConfig: r.n.podConfig("base")}
	}
	if valid == nil || r.IntN(8) == 0 {
		r.fill(request, 0, 3)
		return request
	}
	b, err := proto.Marshal(valid)
	if err == nil {
		err = proto.Unmarshal(b, request)
	}
	if err != nil {
		r.n.t.Fatal(err)
	}
	for range 1 + r.IntN(3) {
		r.change(request)
	}
	return request
}

// change gives one field somewhere below a message another value.
func (r *randomRequests) change(m protoreflect.Message) {
	f := m.Descriptor().Fields().Get(r.IntN(m.Descriptor().Fields().Len()))
	if f.Message() != nil && !f.IsList() && !f.IsMap() && m.Has(f) && r.IntN(12) != 0 {
		r.change(m.Mutable(f).Message())
		return
	}
	if r.IntN(10) == 0 {
		m.Clear(f)
		return
	}
	r.set(m, f, 1)
}

// fill gives one in so many fields a value.
func (r *randomRequests) fill(m protoreflect.Message, depth, one int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if depth < 6 && r.IntN(one) == 0 {
			r.set(m, fields.Get(i), depth+1)
		}
	}
}

func (r *randomRequests) set(m protoreflect.Message, f protoreflect.FieldDescriptor, depth int) {
	switch {
	case f.IsList():
		list := m.Mutable(f).List()
		for range r.IntN(3) {
			v := list.NewElement()
			if f.Message() != nil {
				r.fill(v.Message(), depth, 2)
			} else {
				v = r.scalar(f)
			}
			list.Append(v)
		}
	case f.IsMap():
		for range r.IntN(3) {
			m.Mutable(f).Map().Set(r.scalar(f).MapKey(), r.scalar(f.MapValue()))
		}
	case f.Message() != nil:
		r.fill(m.Mutable(f).Message(), depth, 2)
	default:
		m.Set(f, r.scalar(f))
	}
}

var (
	randomNumbers = []int64{0, 1, -1, 2, 80, 1000, 65535, 65536, 1 << 20, math.MaxInt32, math.MinInt32, math.MaxUint32, math.MaxInt64, math.MinInt64}
	randomTexts   = []string{"", "a", "x.y", "../..", "/", ".", "a\nb", "a\x00b", "ü", "a;b=c", "runtime/default", "localhost/x", "SIGTERM", "CHOWN", "ALL", "root", "0", "rw", "noexec", "2MB", "0-1"}
)

func (r *randomRequests) scalar(f protoreflect.FieldDescriptor) protoreflect.Value {
	number := pick(r, randomNumbers)
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		if r.IntN(4) == 0 {
			return protoreflect.ValueOfEnum(protoreflect.EnumNumber(int32(number)))
		}
		return protoreflect.ValueOfEnum(values.Get(r.IntN(values.Len())).Number())
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(number)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(pick(r, []string{"", "x", "\xff\xfe", "a\x00"})))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(r.text(f))
	}
	if f.IsMap() { // its keys are text
		return protoreflect.ValueOfString(pick(r, append(randomTexts, "net.ipv4.ip_forward", "kernel.shm_rmid_forced", "memory.high", "cgroup.procs", "pod")))
	}
	panic(errors.New("no such kind: " + f.Kind().String()))
}

// text fits what a field means, since a daemon with root's rights acts on it: it
// stays within what the test owns.
func (r *randomRequests) text(f protoreflect.FieldDescriptor) string {
	path := func(more ...string) string {
		return pick(r, append(more, "", "relative", r.n.path("data"), r.n.path("data/../more"), r.n.path("file"), r.n.path("profile.json"), "a\x00b", "/dev/null", "/proc/self"))
	}
	switch f.Name() {
	case "pod_sandbox_id", "id", "container_id", "target_id", "container_ids":
		ids := append(append([]string{"", "0", "zz", strings.Repeat("f", 64)}, r.pods...), r.containers...)
		return pick(r, ids)
	case "cgroup_parent":
		return pick(r, []string{r.n.cgroup, r.n.cgroup + "/../x", "a\x00b", r.n.cgroup + "/x\ny"})
	case "log_directory", "host_path", "localhost_ref", "location", "output_path", "checkpoint_path", "seccomp_profile_path":
		return path()
	case "container_path", "masked_paths", "readonly_paths", "working_dir":
		return path("/", "/x", "/x/../..", "/etc/passwd", "/proc/1", "/dev/x", "/sys", "/tmp/a/b/c")
	case "log_path":
		return path("x.log", "../x", "a/b/c.log", "/abs")
	case "image", "user_specified_image", "image_ref":
		return pick(r, []string{"", busybox, users, "registry.test/none:1", "UPPER", "a b", "sha256:00", strings.Repeat("a", 300)})
	case "command", "args", "cmd":
		return pick(r, []string{"true", "", "/bin/true", "no-such", "a\x00b", "\t"})
	case "server_address", "pod_cidr", "host_ip":
		return pick(r, []string{"", "127.0.0.1", "10.0.0.0/8", "::1", "http://x", "%%", "1.1.1.1\n"})
	case "runtime_handler":
		return pick(r, []string{"", "", "berth", "no-such"})
	}
	return pick(r, append(randomTexts, strings.Repeat("long", 50000)))
}

func pick[T any](r *randomRequests, list []T) T { return list[r.IntN(len(list))] }
