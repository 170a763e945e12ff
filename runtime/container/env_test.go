package container

import (
	"slices"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestExactEnv(t *testing.T) {
	asked := []*runtimeapi.KeyValue{{Key: "RAW", Value: []byte("a\xff")}, {Key: "TEXT", Value: []byte("ü")}, {Key: "DROPPED", Value: []byte("\xff")}}
	read := []string{"PATH=/bin", "RAWER=x", "RAW=a�", "TEXT=changed later"}
	got := exactEnv(read, asked)
	if want := []string{"PATH=/bin", "RAWER=x", "RAW=a\xff", "TEXT=changed later"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if read[2] != "RAW=a�" {
		t.Error("the spec was changed")
	}
}
