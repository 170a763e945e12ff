package kubelet

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What the outer process hands to the one inside the namespaces.
const (
	envWork   = "BERTH_KUBELET_WORK"   // directory of this run
	envBin    = "BERTH_KUBELET_BIN"    // the programs of Berth and the tests
	envBinary = "BERTH_KUBELET_BINARY" // the kubelet; may be set by people, too
)

var (
	work       string
	registry   string // URL
	kubeletBin string
)

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Println("a kubelet needs root: skipped")
		return
	}
	var code int
	var err error
	if work = os.Getenv(envWork); work == "" {
		code, err = outside()
	} else {
		code, err = inside(m)
	}
	if err != nil {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

// setup makes the namespaces look like a machine. /var/log and /var/lib/kubelet
// have fixed places in the kubelet that no setting moves (the links to container
// logs, the socket of device plugins); it wants a default route to find its
// address. The shell stays as the init that reaps.
const setup = `
mount --make-rshared / &&
mount -t tmpfs tmpfs /var/log &&
mkdir -p /var/lib/kubelet && mount -t tmpfs tmpfs /var/lib/kubelet &&
echo nameserver 127.0.0.1 >/var/lib/kubelet/resolv.conf && mount --bind /var/lib/kubelet/resolv.conf /etc/resolv.conf &&
ip link set lo up &&
ip link add uplink type veth peer name uplink-far && ip link set uplink-far up &&
ip addr add 10.87.1.2/24 dev uplink && ip link set uplink up &&
ip route add default via 10.87.1.1 || exit 1
"$@"
exit $?`

// outside builds what is needed and runs this program again in namespaces of its
// own. What is left when they are gone are directories and cgroups.
func outside() (int, error) {
	dir, err := os.MkdirTemp("", "bk-") // short: a socket's path has 108 bytes
	if err != nil {
		return 1, err
	}
	if os.Getenv("KEEP") == "" {
		defer os.RemoveAll(dir)
	}
	bin := os.Getenv(envBin)
	if bin == "" {
		bin = filepath.Join(dir, "bin")
		if err := buildPrograms(bin); err != nil {
			return 1, err
		}
	}
	binary, err := kubeletBinary()
	if err != nil {
		return 1, err
	}
	defer removeCgroups(cgroupRoot(dir))
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	args := []string{"--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc", "sh", "-c", setup, "sh", self}
	cmd := exec.Command("unshare", append(args, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), envWork+"="+dir, envBin+"="+bin, envBinary+"="+binary)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	if cmd.ProcessState != nil {
		return cmd.ProcessState.ExitCode(), nil
	}
	return 1, err
}

func inside(m *testing.M) (int, error) {
	bin := os.Getenv(envBin)
	kubeletBin = os.Getenv(envBinary)
	cmd := exec.Command(filepath.Join(bin, "serve"), "probee="+filepath.Join(bin, "probee"))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 1, err
	}
	defer stdin.Close() // it ends with its input
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return 1, fmt.Errorf("registry: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return 1, fmt.Errorf("registry: %w", err)
	}
	go io.Copy(io.Discard, out)
	registry = strings.TrimSpace(line)
	// They wait, most of the time: for probes, back-offs and grace periods.
	flag.Set("test.parallel", "10")
	return m.Run(), nil
}

func buildPrograms(to string) error {
	for dir, packages := range map[string][]string{"../..": {"./cmd/...", "./test/images/serve"}, ".": {"./probee"}} {
		if err := goBuild(dir, to+"/", packages...); err != nil {
			return err
		}
	}
	return nil
}

func goBuild(dir, to string, args ...string) error {
	build := exec.Command("go", append([]string{"build", "-trimpath", "-o", to}, args...)...)
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build %v: %w\n%s", args, err, out)
	}
	return nil
}

// kubeletBinary is built once for each version and kept in the user's cache: it
// takes minutes.
func kubeletBinary() (string, error) {
	if named := os.Getenv(envBinary); named != "" {
		return named, nil
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes").Output()
	if err != nil {
		return "", fmt.Errorf("version of the kubelet: %w", err)
	}
	version := strings.TrimSpace(string(out))
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "berth", "kubelet-"+version)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Printf("building the kubelet %s into %s: this takes minutes, once\n", version, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	flags := "-s -w -X k8s.io/component-base/version.gitVersion=" + version
	return path, goBuild(".", path, "-ldflags", flags, "k8s.io/kubernetes/cmd/kubelet")
}
