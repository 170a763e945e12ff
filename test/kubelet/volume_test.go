package kubelet

import (
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func quantity(s string) resource.Quantity { return resource.MustParse(s) }

func mount(volume, path string, change ...func(*corev1.VolumeMount)) corev1.VolumeMount {
	m := corev1.VolumeMount{Name: volume, MountPath: path}
	for _, f := range change {
		f(&m)
	}
	return m
}

func field(path string) *corev1.ObjectFieldSelector {
	return &corev1.ObjectFieldSelector{FieldPath: path}
}

// wantOutputs runs commands in a container and compares what they print.
func (n *node) wantOutputs(t *testing.T, pod, container string, want map[string]string) {
	t.Helper()
	for command, out := range want {
		if got := strings.TrimSpace(n.exec(t, pod, container, "sh", "-c", "{ "+command+"\n} 2>&1; true")); got != out {
			t.Errorf("%s: %s: %q, want %q", pod, command, got, out)
		}
	}
}

func volumes(n *node, t *testing.T) {
	main := sleeps("main")
	readOnly := func(m *corev1.VolumeMount) { m.ReadOnly = true }
	sub := func(path string) func(*corev1.VolumeMount) {
		return func(m *corev1.VolumeMount) { m.SubPath, m.ReadOnly = path, true }
	}
	main.Env = []corev1.EnvVar{{Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: field("metadata.name")}}}
	main.VolumeMounts = []corev1.VolumeMount{
		mount("disk", "/disk"), mount("memory", "/memory"), mount("host", "/host"), mount("host", "/host-ro", readOnly),
		mount("host", "/etc/app.conf", sub("conf/app.conf")), mount("host", "/conf", sub("conf")),
		mount("disk", "/mine", func(m *corev1.VolumeMount) { m.SubPathExpr = "of-$(POD)" }),
		mount("file", "/etc/one-file"), mount("projected", "/projected"), mount("projected", "/etc/labels", sub("downward/labels")),
		mount("made", "/made"),
	}
	p := pod("volumes", main)
	p.Labels = map[string]string{"app": "volumes"}
	p.Annotations = map[string]string{"note": "kept"}
	host := n.path("host")
	for _, f := range []string{"host/conf/app.conf", "host/conf/other.conf"} {
		n.write(f, "content of "+f+"\n")
	}
	directory := func(path string, kind corev1.HostPathType) corev1.VolumeSource {
		return corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}
	}
	p.Spec.Volumes = []corev1.Volume{
		{Name: "disk", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr(quantity("10Mi"))}}},
		{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: ptr(quantity("4Mi"))}}},
		{Name: "host", VolumeSource: directory(host, corev1.HostPathDirectory)},
		{Name: "file", VolumeSource: directory(host+"/conf/app.conf", corev1.HostPathFile)},
		{Name: "made", VolumeSource: directory(host+"/made", corev1.HostPathDirectoryOrCreate)},
		// It is written as a configMap, a secret or a projected volume is: links to a
		// directory that is replaced as a whole. Those need an API server.
		{Name: "projected", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{DefaultMode: ptr(int32(0o440)), Items: []corev1.DownwardAPIVolumeFile{
			{Path: "downward/labels", FieldRef: field("metadata.labels")}, {Path: "downward/name", FieldRef: field("metadata.name")},
		}}}},
	}
	n.ready(t, p)
	n.wantOutputs(t, "volumes", "main", map[string]string{
		"echo x >/disk/f && cat /disk/f":                                  "x",
		"grep ' /memory ' /proc/mounts | cut -d' ' -f3":                   "tmpfs",
		"dd if=/dev/zero of=/memory/f bs=1M count=5 2>&1 | grep -o space": "space",
		"df -k /memory | tail -1 | awk '{print $2}'":                      "4096",
		"cat /etc/app.conf":                                               "content of host/conf/app.conf",
		"cat /etc/one-file":                                               "content of host/conf/app.conf",
		"ls /conf":                                                        "app.conf\nother.conf",
		"echo x >/conf/app.conf":                                          "sh: can't create /conf/app.conf: Read-only file system",
		"echo x >/host-ro/f":                                              "sh: can't create /host-ro/f: Read-only file system",
		"echo x >/mine/f; cat /disk/of-$POD/f":                            "x",
		"cat /projected/downward/name":                                    "volumes" + suffix,
		"stat -L -c %a /projected/downward/name":                          "440",
		"cat /etc/labels":                                                 `app="volumes"`,
		"echo made >/made/f":                                              "",
	})
	if s := read(t, host, "made/f"); s != "made\n" {
		t.Errorf("in a directory of the host: %q", s)
	}
	n.remove(t, "volumes")
	if _, err := os.Stat(host + "/made/f"); err != nil {
		t.Errorf("after the pod: %v", err)
	}
}

// A volume whose content is an image.
func imageVolume(n *node, t *testing.T) {
	main := sleeps("main")
	main.VolumeMounts = []corev1.VolumeMount{
		mount("image", "/image"),
		mount("image", "/bin-only", func(m *corev1.VolumeMount) { m.SubPath = "bin" }),
	}
	p := pod("image-volume", main)
	p.Spec.Volumes = []corev1.Volume{{Name: "image", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: probee, PullPolicy: corev1.PullIfNotPresent}}}}
	n.ready(t, p)
	n.wantOutputs(t, "image-volume", "main", map[string]string{
		"test -x /image/probee && echo there": "there",
		"test -x /bin-only/sh && echo there":  "there",
		"echo x >/image/f":                    "sh: can't create /image/f: Read-only file system",
	})
}
