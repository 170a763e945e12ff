package pod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-cri/berth/linux"
	"github.com/berth-cri/berth/linux/namespace"
	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Names of the files of a pod directory that its containers get.
const (
	HostsFile      = "hosts"
	HostnameFile   = "hostname"
	ResolvConfFile = "resolv.conf"
	shmDir         = "shm"
)

// shmSize is what every runtime gives, in bytes.
const shmSize = 64 << 20

// Shm is the directory that the pod's containers see as /dev/shm.
func (p *Pod) Shm() string {
	if p.Namespace(namespace.IPC) == "" {
		return "/dev/shm"
	}
	return p.File(shmDir)
}

func (s *Service) makeFiles(_ context.Context, p *Pod) error {
	hosts, err := hostsFile(p)
	if err != nil {
		return err
	}
	resolv, err := resolvConf(p.Record().Config.GetDnsConfig())
	if err != nil {
		return err
	}
	uid, gid := p.root()
	for name, content := range map[string]string{
		HostsFile:      hosts,
		HostnameFile:   p.Record().Hostname + "\n",
		ResolvConfFile: resolv,
	} {
		// Written in place: a rename would leave a bind mount on the old file.
		if err := os.WriteFile(p.File(name), []byte(content), 0o644); err != nil {
			return err
		}
		if err := os.Chmod(p.File(name), 0o644); err != nil { // whatever the umask
			return err
		}
		if err := os.Chown(p.File(name), uid, gid); err != nil {
			return err
		}
	}
	if p.Namespace(namespace.IPC) == "" {
		return nil
	}
	if err := os.Mkdir(p.File(shmDir), 0o700); err != nil {
		return err
	}
	data := fmt.Sprintf("mode=1777,size=%d,uid=%d,gid=%d", shmSize, uid, gid)
	return linux.Mount("shm", p.File(shmDir), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC,
		p.Record().Labels.MountData(data))
}

// root are the host's ids of the pod's root.
func (p *Pod) root() (uid, gid int) {
	u, g := p.Mapping().Owner(0, 0)
	return int(u), int(g)
}

// unmountShm is nil when nothing is mounted, or nothing was ever made.
func unmountShm(dir string) error {
	err := linux.Unmount(filepath.Join(dir, shmDir), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// hostsFile is the node's for a pod on the node's network; else localhost and
// the pod's own name. The kubelet puts its own file over it.
func hostsFile(p *Pod) (string, error) {
	if p.Namespace(namespace.Net) == "" {
		return read("/etc/hosts")
	}
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	for _, ip := range p.Record().IPs {
		fmt.Fprintf(&b, "%s\t%s\n", ip, p.Record().Hostname)
	}
	return b.String(), nil
}

// resolvConf is the node's unless the CRI says something (resolv.conf(5)).
func resolvConf(dns *runtimeapi.DNSConfig) (string, error) {
	if len(dns.GetServers())+len(dns.GetSearches())+len(dns.GetOptions()) == 0 {
		return read("/etc/resolv.conf")
	}
	var b strings.Builder
	if len(dns.Searches) > 0 {
		b.WriteString("search " + strings.Join(dns.Searches, " ") + "\n")
	}
	for _, server := range dns.Servers {
		b.WriteString("nameserver " + server + "\n")
	}
	if len(dns.Options) > 0 {
		b.WriteString("options " + strings.Join(dns.Options, " ") + "\n")
	}
	return b.String(), nil
}

// read returns a file of the node, or nothing when there is none.
func read(path string) (string, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return string(b), err
}
