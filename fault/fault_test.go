package fault

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

func TestPointRunsThroughItsActions(t *testing.T) {
	if err := Arm("a=1*off->2*error(boom)->off; b=error(x)"); err != nil {
		t.Fatal(err)
	}
	defer Arm("a=;b=")
	for i, want := range []bool{false, true, true, false, false} {
		if err := Hit("a"); errors.Is(err, ErrInjected) != want {
			t.Errorf("hit %d: %v", i, err)
		}
	}
	if err := Hit("unarmed"); err != nil {
		t.Error(err)
	}
	if err := Set("b", ""); err != nil || Hit("b") != nil {
		t.Error("still armed")
	}
}

func TestRefused(t *testing.T) {
	for _, text := range []string{"a", "a=nothing", "a=0*off", "a=x*off", "a=sleep(x)", "a=exit(y)", "a=error(x"} {
		if Arm(text) == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestKillAndExitEndTheProcess(t *testing.T) {
	if text := os.Getenv(Variable); text != "" {
		Arm(text)
		Hit("here")
		os.Exit(0)
	}
	for text, want := range map[string]string{"here=kill": "signal: killed", "here=exit(7)": "exit status 7"} {
		cmd := exec.Command(os.Args[0], "-test.run=TestKillAndExitEndTheProcess")
		cmd.Env = append(os.Environ(), Variable+"="+text)
		if err := cmd.Run(); err == nil || err.Error() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}
