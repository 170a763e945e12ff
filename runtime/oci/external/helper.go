package external

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// HelperName is the argument that makes the monitor's program a helper.
const HelperName = "oci-create"

const (
	planFD  = 3       // the helper's descriptor of the plan
	maxPlan = 1 << 20 // bytes
)

// Helper mounts what the plan says and becomes the runtime. It is called in a
// mount namespace of its own with the arguments LOG AREA PROGRAM ARGS..., and
// returns only when that failed: the reason is in the log then, as a runtime
// would have it.
func Helper(args []string) int {
	if len(args) < 3 {
		fmt.Fprintln(os.Stderr, "berth-monitor "+HelperName+" is for the monitor alone")
		return 2
	}
	log, area, argv := args[0], args[1], args[2:]
	err := mountPlanned(area)
	if err == nil {
		err = fmt.Errorf("execute %s: %w", argv[0], unix.Exec(argv[0], argv, os.Environ()))
	}
	if err := complain(log, err); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

func mountPlanned(area string) error {
	f := os.NewFile(planFD, "plan")
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxPlan))
	f.Close()
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	var p mountPlan
	if err := json.Unmarshal(b, &p); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	return p.mount(area)
}

func complain(log string, why error) error {
	b, err := json.Marshal(map[string]string{"level": "error", "msg": why.Error()})
	if err != nil {
		return err
	}
	return os.WriteFile(log, append(b, '\n'), 0o600)
}
