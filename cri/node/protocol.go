package node

import (
	"encoding/json"
	"time"

	"google.golang.org/grpc/encoding"
)

// PullRequest asks for an image. With Explain the last event has the trail.
type PullRequest struct {
	Image         string `json:"image"`
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identityToken,omitempty"`
	RegistryToken string `json:"registryToken,omitempty"`
	Explain       bool   `json:"explain,omitempty"`
}

// PullEvent is how far a pull is. The last one before the end of the call has
// the image, or the trail, or both; an error ends the call with its status.
type PullEvent struct {
	State      string      `json:"state"` // resolving, reading, unpacking, recording, done, failed
	Size       int64       `json:"size"`  // bytes to download, once the manifest is read
	Downloaded int64       `json:"downloaded"`
	Unpacked   int64       `json:"unpacked"`
	Layers     []PullLayer `json:"layers,omitempty"` // base first

	ImageID string    `json:"imageID,omitempty"`
	Trail   []Attempt `json:"trail,omitempty"`
}

// PullLayer is one layer of a pull.
type PullLayer struct {
	Digest     string `json:"digest"` // of the blob
	Size       int64  `json:"size"`
	Downloaded int64  `json:"downloaded"`
	Done       bool   `json:"done,omitempty"`
	Here       bool   `json:"here,omitempty"` // it was in the store already
}

// Attempt is one request to a registry.
type Attempt struct {
	Endpoint   string        `json:"endpoint"`
	Request    string        `json:"request"`
	Credential string        `json:"credential"` // where it came from, never itself
	Answer     string        `json:"answer"`
	Took       time.Duration `json:"took"`
}

// DiskUsageRequest has no fields.
type DiskUsageRequest struct{}

// DiskUsage is what Berth takes of the disk.
type DiskUsage struct {
	Root       string           `json:"root"`
	Images     []ImageUsage     `json:"images"`
	Layers     LayerUsage       `json:"layers"`
	Containers []ContainerUsage `json:"containers"`
}

// ImageUsage is one image. Shared layers are those of other images as well.
type ImageUsage struct {
	ID         string   `json:"id"`
	Names      []string `json:"names,omitempty"`
	Size       int64    `json:"size"` // Shared + Unique
	Shared     int64    `json:"shared"`
	Unique     int64    `json:"unique"` // what removing it gives back, once no container has it
	Layers     int      `json:"layers"`
	Containers int      `json:"containers"` // that were made of it
	Pinned     bool     `json:"pinned,omitempty"`
}

// LayerUsage is all layers, each counted once.
type LayerUsage struct {
	Count       int   `json:"count"`
	Size        int64 `json:"size"`
	Unused      int   `json:"unused"`      // of no image: kept by a container, or until the next sweep
	Reclaimable int64 `json:"reclaimable"` // bytes of images without a container, and of layers without either
}

// ContainerUsage is one container.
type ContainerUsage struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Pod      string `json:"pod"` // namespace/name
	State    string `json:"state"`
	Writable int64  `json:"writable"` // bytes of its writable layer, -1 while they are counted for the first time
	Inodes   int64  `json:"inodes"`
	Log      int64  `json:"log"` // bytes of its log with what was rotated away
}

// contentSubtype chooses the codec of this service's messages.
const contentSubtype = "json"

type codec struct{}

func (codec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (codec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }
func (codec) Name() string                       { return contentSubtype }

func init() { encoding.RegisterCodec(codec{}) }
