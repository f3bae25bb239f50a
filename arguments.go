package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst puts the flags of a command before its arguments, where cli wants
// them: users write "local pipeline DIR --artifacts OUT" as well.
func flagsFirst(commands []*cli.Command, args []string) []string {
	for i, arg := range args[1:] {
		at := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(arg) })
		if at < 0 {
			return args
		}
		if command := commands[at]; len(command.Subcommands) == 0 {
			return append(slices.Clone(args[:i+2]), permuted(command.Flags, args[i+2:])...)
		}
		commands = commands[at].Subcommands
	}
	return args
}

func permuted(flags []cli.Flag, args []string) []string {
	var first, last []string
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--":
			return append(append(first, arg), append(last, args[i+1:]...)...)
		case !strings.HasPrefix(arg, "-") || arg == "-":
			last = append(last, arg)
		case takesValue(flags, arg):
			if i+1 == len(args) { // not the directory's name for a value
				return append(append(first, last...), arg)
			}
			i++
			first = append(first, arg, args[i])
		default:
			first = append(first, arg)
		}
	}
	return append(first, last...)
}

// takesValue says whether the value of a flag is the next argument.
func takesValue(flags []cli.Flag, arg string) bool {
	if strings.Contains(arg, "=") {
		return false
	}
	for _, flag := range flags {
		if slices.Contains(flag.Names(), strings.TrimLeft(arg, "-")) {
			documented, ok := flag.(cli.DocGenerationFlag)
			return ok && documented.TakesValue()
		}
	}
	return false
}
