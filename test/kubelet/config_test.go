package kubelet

import (
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// cgroupRoot is the parent of every cgroup of a run.
func cgroupRoot(work string) string { return "/berth-kubelet-" + filepath.Base(work) }

// configuration is the kubelet's. What is set here is set because the machine is
// not the kubelet's own, or because a test should not wait for minutes.
func (n *node) configuration() kubeletconfig.KubeletConfiguration {
	seconds := func(s int) metav1.Duration { return metav1.Duration{Duration: time.Duration(s) * time.Second} }
	c := kubeletconfig.KubeletConfiguration{
		TypeMeta:                 metav1.TypeMeta{APIVersion: "kubelet.config.k8s.io/v1beta1", Kind: "KubeletConfiguration"},
		ContainerRuntimeEndpoint: "unix://" + n.path("berth.sock"),
		StaticPodPath:            n.path("manifests"),
		PodLogsDir:               n.path("logs"),
		VolumePluginDir:          n.path("plugins"),
		FileCheckFrequency:       seconds(1),
		SyncFrequency:            seconds(10),
		VolumeStatsAggPeriod:     seconds(10),

		// Its API, for nobody but the tests.
		Address:       "127.0.0.1",
		Port:          kubeletPort,
		HealthzPort:   ptr(int32(0)),
		Authorization: kubeletconfig.KubeletAuthorization{Mode: kubeletconfig.KubeletAuthorizationModeAlwaysAllow},
		Authentication: kubeletconfig.KubeletAuthentication{
			Anonymous: kubeletconfig.KubeletAnonymousAuthentication{Enabled: ptr(true)},
			Webhook:   kubeletconfig.KubeletWebhookAuthentication{Enabled: ptr(false)},
		},

		// The machine: any cgroup version, a parent of the tests' own, and no right
		// to raise what root has without CAP_SYS_RESOURCE.
		CgroupDriver:           "cgroupfs",
		CgroupRoot:             n.cgroup,
		EnforceNodeAllocatable: []string{"pods"},
		FailCgroupV1:           ptr(false),
		FailSwapOn:             ptr(false),
		OOMScoreAdj:            ptr(int32(0)),
		MaxOpenFiles:           20000,
		EvictionHard: map[string]string{
			"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
			"imagefs.available": "0%", "imagefs.inodesFree": "0%", "pid.available": "0%",
		},
		// The disk may be as full as it likes, until a test says otherwise.
		ImageGCHighThresholdPercent: ptr(int32(100)),
		ImageGCLowThresholdPercent:  ptr(int32(99)),

		SerializeImagePulls:         ptr(false),
		ContainerLogMaxSize:         "20Ki",
		ContainerLogMaxFiles:        ptr(int32(3)),
		ContainerLogMonitorInterval: &metav1.Duration{Duration: 3 * time.Second},
		FeatureGates:                n.gates,
	}
	if n.configure != nil {
		n.configure(&c)
	}
	return c
}

func ptr[T any](v T) *T { return &v }
