// Package embedded is Berth's own OCI runtime.
//
// Compile turns a spec into a plan: a list of small steps for berth-init. The
// Launcher, in the monitor, starts berth-init in the right namespaces and
// cgroups and lets it go; berth-init carries out the plan and becomes the
// container's program. Between the compilation and the start there is no mount
// and no process of the container on the host.
//
// Owns: what each field of a spec means as steps and in which order they come;
// how berth-init is started.
//
// Always true:
//   - A field of the spec that is not honoured is an error that names it.
//     linux.resources and linux.cgroupsPath are honoured by runtime/cgroup.
//   - The mounts of a container exist in its own mount namespace only.
//   - A thread of the monitor that has entered a namespace is back in the host's
//     before anything else runs on it, or it ends.
//   - No descriptor of the host reaches the user's program.
//
// May import: linux, runtime/oci, runtime/oci/hooks, plan and seccomp below it, errdefs, runtime-spec,
// moby/sys/mountinfo, golang.org/x/sys.
package embedded
