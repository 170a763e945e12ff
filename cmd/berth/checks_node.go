package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/berth-cri/berth/config"
)

// node are the checks of a node that is set up: its daemon, its network's
// configuration, room on its disk, and what was left behind.
func (r *report) node(ctx context.Context, cfg *config.Config) {
	r.daemon(ctx, cfg.Listen)
	r.networkConfiguration(cfg.CNI)
	r.room("disk space", cfg.Root, 15, 5)
	r.room("state space", cfg.State, 15, 5)
	r.leftovers(cfg)
}

// daemonPatience is what the daemon gets to answer.
const daemonPatience = 5 * time.Second

func (r *report) daemon(ctx context.Context, socket string) {
	s, err := net.DialTimeout("unix", socket, daemonPatience)
	if err != nil {
		r.add("daemon", stateNote, "none answers at "+socket, "The kubelet finds no runtime until it is started: berth serve, or systemctl start berth.")
		return
	}
	s.Close()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.add("daemon", stateFail, err.Error(), "")
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, daemonPatience)
	defer cancel()
	client := runtimeapi.NewRuntimeServiceClient(conn)
	v, err := client.Version(ctx, &runtimeapi.VersionRequest{})
	if err != nil {
		r.add("daemon", stateFail, "does not answer at "+socket+": "+status.Convert(err).Message(), "Its log says more: journalctl -u berth.")
		return
	}
	found := fmt.Sprintf("%s %s at %s", v.RuntimeName, v.RuntimeVersion, socket)
	if v.RuntimeVersion != strings.TrimPrefix(version, "v") && v.RuntimeVersion != version {
		r.add("daemon", stateNote, found, "This program is "+version+": after an upgrade the daemon is to be restarted; containers go on.")
	} else {
		r.add("daemon", stateOK, found, "")
	}
	st, err := client.Status(ctx, &runtimeapi.StatusRequest{})
	if err != nil {
		r.add("daemon's status", stateFail, status.Convert(err).Message(), "Its log says more: journalctl -u berth.")
		return
	}
	for _, c := range st.GetStatus().GetConditions() {
		if c.Status {
			r.add(c.Type, stateOK, "yes", "")
		} else {
			r.add(c.Type, stateNote, "no: "+c.Reason, c.Message)
		}
	}
}

func (r *report) networkConfiguration(c config.CNI) {
	var found []string
	for _, pattern := range []string{"*.conflist", "*.conf", "*.json"} {
		files, _ := filepath.Glob(filepath.Join(c.ConfDir, pattern)) // the pattern is a good one
		found = append(found, files...)
	}
	switch {
	case c.BuiltinNetwork:
		r.add("CNI configuration", stateOK, "the builtin network", "")
	case len(found) > 0:
		r.add("CNI configuration", stateOK, strings.Join(found, " "), "")
	default:
		r.add("CNI configuration", stateNote, "none in "+c.ConfDir,
			"The node is not ready, and only pods on the host network start, until a network plugin puts one there or cni.builtin_network is true.")
	}
}

// room looks at bytes and inodes; the numbers are percent.
func (r *report) room(name, dir string, enough, least uint64) {
	// The directory may not be made yet: then it is its parent's file system.
	var st unix.Statfs_t
	err := unix.Statfs(dir, &st)
	for err == unix.ENOENT && dir != "/" {
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &st)
	}
	if err != nil || st.Blocks == 0 {
		r.add(name, stateNote, "not known", "")
		return
	}
	free := st.Bavail * 100 / st.Blocks
	found := fmt.Sprintf("%s free (%d%%)", bytesText(st.Bavail*uint64(st.Bsize)), free)
	if st.Files > 0 { // btrfs has no number of inodes
		inodes := st.Ffree * 100 / st.Files
		found += fmt.Sprintf(", %d%% of the inodes", inodes)
		free = min(free, inodes)
	}
	state := stateOK
	if free < enough {
		state = stateNote
	}
	if free < least {
		state = stateFail
	}
	r.add(name, state, found, "Pulls and containers fail on a full disk, and below 15% the kubelet removes images. berth df shows what takes room, berth prune --all gives back what no container uses.")
}

// leftovers are what was set aside or waits to be deleted.
func (r *report) leftovers(cfg *config.Config) {
	count := func(dir string) int {
		entries, _ := os.ReadDir(dir) // none when there is no such directory
		return len(entries)
	}
	if n := count(filepath.Join(cfg.Root, "images", "broken")); n > 0 {
		r.add("image records", stateNote, fmt.Sprintf("%d cannot be read", n), "They are in "+filepath.Join(cfg.Root, "images", "broken")+"; pulling their images again makes new ones.")
	} else {
		r.add("image records", stateOK, "none is broken", "")
	}
	const many = 100 // what a node deletes in a burst
	state, n := stateOK, count(filepath.Join(cfg.Root, "trash"))
	if n > many {
		state = stateNote
	}
	r.add("trash", state, fmt.Sprintf("%d to be deleted", n), "The daemon deletes them beside its work; when their number does not fall, its log says why.")
}
