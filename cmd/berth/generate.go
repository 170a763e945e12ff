//go:build generate

package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Built with the tag, the program makes what packages ship besides the programs:
// manual pages and shell completions, of the commands as they are.
// "go run -tags generate ./cmd/berth generate DIR".
func init() {
	root := rootCommand()
	if len(os.Args) != 3 || os.Args[1] != "generate" {
		return
	}
	if err := generate(root, os.Args[2]); err != nil {
		panic(err)
	}
	os.Exit(0)
}

func generate(root *cobra.Command, dir string) error {
	root.InitDefaultCompletionCmd()
	root.DisableAutoGenTag = true
	man := filepath.Join(dir, "man1")
	if err := os.MkdirAll(man, 0o755); err != nil {
		return err
	}
	header := &doc.GenManHeader{Section: "1", Source: "Berth", Manual: "Berth"} // the date: of SOURCE_DATE_EPOCH, or now
	if err := doc.GenManTree(root, header, man); err != nil {
		return err
	}
	if err := root.GenBashCompletionFileV2(filepath.Join(dir, "berth.bash"), true); err != nil {
		return err
	}
	if err := root.GenZshCompletionFile(filepath.Join(dir, "_berth")); err != nil {
		return err
	}
	return root.GenFishCompletionFile(filepath.Join(dir, "berth.fish"), true)
}
