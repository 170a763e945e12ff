package operator

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func inspectCommand() *cobra.Command {
	var o output
	var kind string
	cmd := asks(&cobra.Command{
		Use:   "inspect NAME...",
		Short: "Show everything about a container, a pod or an image",
		Long: `Show everything about a container, a pod or an image: the status as the kubelet
sees it, and what Berth itself knows: records, the OCI spec with its mounts,
cgroup, process, namespaces, directories. Several names give a list.

A name is looked for among containers, then pods, then images, by id, name,
or the beginning of an id; --type says where alone to look.`,
		Example:           "  berth inspect web | jq .info.runtimeSpec.mounts\n  berth inspect --type image registry.k8s.io/pause:3.10",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: anyNumber(everything),
	}, func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
		var all []any
		for _, word := range args {
			v, err := c.inspect(ctx, word, kind)
			if err != nil {
				return err
			}
			all = append(all, v)
		}
		if len(all) == 1 {
			return o.write(cmd.OutOrStdout(), all[0])
		}
		return o.write(cmd.OutOrStdout(), all)
	})
	o.formatFlag(cmd.Flags(), "json")
	cmd.Flags().StringVar(&kind, "type", "", "`KIND`: container, pod or image")
	complete(cmd, "type", fixed("container", "pod", "image"))
	return cmd
}

func everything(ctx context.Context, c *client, typed string) []string {
	all := append(containers(ctx, c, typed), pods(ctx, c, typed)...)
	return append(all, imageNames(ctx, c, typed)...)
}

func (c *client) inspect(ctx context.Context, word, kind string) (any, error) {
	kinds := []struct {
		name string
		find func(context.Context, string) (any, error)
	}{{"container", c.inspectContainer}, {"pod", c.inspectPod}, {"image", c.inspectImage}}
	known := false
	var last error
	for _, k := range kinds {
		if kind != "" && kind != k.name {
			continue
		}
		known = true
		v, err := k.find(ctx, word)
		if v != nil || err != nil && kind == "" && isAmbiguous(err) {
			return v, err
		}
		if last = err; last == nil {
			last = fmt.Errorf("no %s %q", k.name, word)
		}
	}
	switch {
	case !known:
		return nil, fmt.Errorf("--type %q is none of container, pod, image", kind)
	case kind == "":
		return nil, fmt.Errorf("no container, pod or image %q", word)
	}
	return nil, last
}

func (c *client) inspectContainer(ctx context.Context, word string) (any, error) {
	x, err := c.container(ctx, word)
	if err != nil {
		return nil, err
	}
	r, err := c.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: x.Id, Verbose: true})
	if err != nil {
		return nil, err
	}
	return document(r.Status, r.Info)
}

func (c *client) inspectPod(ctx context.Context, word string) (any, error) {
	p, err := c.pod(ctx, word)
	if err != nil {
		return nil, err
	}
	r, err := c.runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: p.Id, Verbose: true})
	if err != nil {
		return nil, err
	}
	return document(r.Status, r.Info)
}

// inspectImage is nil without an error when there is none.
func (c *client) inspectImage(ctx context.Context, word string) (any, error) {
	r, err := c.images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: word}, Verbose: true})
	if err != nil || r.Image == nil {
		return nil, err
	}
	return document(r.Image, r.Info)
}

// document is what crictl inspect prints: the status, and the verbose info as
// the JSON that it is.
func document(status proto.Message, info map[string]string) (any, error) {
	b, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(status)
	if err != nil {
		return nil, err
	}
	doc := struct {
		Status json.RawMessage `json:"status"`
		Info   map[string]any  `json:"info"`
	}{Status: b, Info: map[string]any{}}
	for k, v := range info {
		var parsed any
		if json.Unmarshal([]byte(v), &parsed) != nil {
			parsed = v // another runtime's plain text
		}
		if fields, ok := parsed.(map[string]any); ok && k == "info" {
			for name, field := range fields {
				doc.Info[name] = field
			}
			continue
		}
		doc.Info[k] = parsed
	}
	return doc, nil
}
