package operator

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// words completes what is typed; an entry is "WORD\tdescription".
type words func(ctx context.Context, c *client, typed string) []string

// complete gives a flag its words.
func complete(cmd *cobra.Command, flag string, w words) {
	// The error says that there is no such flag, which a test would see at once.
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return ask(cmd, w, typed)
	})
}

// atMost completes the first n arguments.
func atMost(n int, w words) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= n {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return ask(cmd, w, typed)
	}
}

// anyNumber completes every argument.
func anyNumber(w words) cobra.CompletionFunc { return atMost(1<<30, w) }

// ask asks the daemon, briefly: a shell waits for this at every TAB. Without a
// daemon there is nothing to complete, and nothing to say about it.
func ask(cmd *cobra.Command, w words, typed string) ([]string, cobra.ShellCompDirective) {
	c := connection{address: flag(cmd, "address"), config: flag(cmd, "config")}
	cl, err := c.dial()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer cl.close()
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	var fitting []string
	for _, word := range w(ctx, cl, typed) {
		if strings.HasPrefix(word, typed) {
			fitting = append(fitting, word)
		}
	}
	return fitting, cobra.ShellCompDirectiveNoFileComp
}

func flag(cmd *cobra.Command, name string) string {
	if f := cmd.Flags().Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}

func fixed(all ...string) words {
	return func(context.Context, *client, string) []string { return all }
}

// containers are names, and once an id is being typed, ids.
func containers(ctx context.Context, c *client, typed string) []string {
	all, err := c.containerList(ctx, nil)
	if err != nil {
		return nil
	}
	pods, _ := c.podNames(ctx)
	var found []string
	for _, x := range all {
		p := pods[x.PodSandboxId]
		name := x.GetMetadata().GetName()
		about := "\t" + containerState(x.State) + " in " + p.GetNamespace() + "/" + p.GetName()
		found = append(found, name+about)
		if typed != "" {
			found = append(found, x.Id[:min(len(x.Id), idLength)]+"\t"+name)
		}
	}
	return found
}

func pods(ctx context.Context, c *client, typed string) []string {
	all, err := c.podList(ctx, nil)
	if err != nil {
		return nil
	}
	var found []string
	for _, p := range all {
		full := p.GetMetadata().GetNamespace() + "/" + p.GetMetadata().GetName()
		found = append(found, full+"\t"+podState(p.State), p.GetMetadata().GetName()+"\t"+full)
		if typed != "" {
			found = append(found, p.Id[:min(len(p.Id), idLength)]+"\t"+full)
		}
	}
	return found
}

func imageNames(ctx context.Context, c *client, _ string) []string {
	all, err := c.imageList(ctx)
	if err != nil {
		return nil
	}
	var found []string
	for _, i := range all {
		found = append(found, i.RepoTags...)
		found = append(found, i.RepoDigests...)
	}
	return found
}

func namespaces(ctx context.Context, c *client, _ string) []string {
	all, err := c.podList(ctx, nil)
	if err != nil {
		return nil
	}
	seen := map[string]bool{}
	var found []string
	for _, p := range all {
		if ns := p.GetMetadata().GetNamespace(); !seen[ns] {
			seen[ns] = true
			found = append(found, ns)
		}
	}
	return found
}
