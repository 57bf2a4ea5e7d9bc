// Renders conversations with a template as Ollama does. Reads {"template": "...", "conversations": [[{"role", "content"}...]...]}
// from standard input and writes a list of strings to standard output.
//
// What Ollama does for a template that names .Messages: missing keys are empty, there is a function json, neighbours of one role
// become one message with an empty line between, and .System holds all system messages, joined in the same way.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

func main() {
	var given struct {
		Template      string      `json:"template"`
		Conversations [][]message `json:"conversations"`
	}
	refuse(json.NewDecoder(os.Stdin).Decode(&given))
	functions := template.FuncMap{"json": func(value any) (string, error) {
		text, err := json.Marshal(value)
		return string(text), err
	}}
	rendering, err := template.New("").Option("missingkey=zero").Funcs(functions).Parse(given.Template)
	refuse(err)
	texts := []string{}
	for _, conversation := range given.Conversations {
		var text strings.Builder
		refuse(rendering.Execute(&text, values(conversation)))
		texts = append(texts, text.String())
	}
	refuse(json.NewEncoder(os.Stdout).Encode(texts))
}

// values holds what the template sees of a conversation.
func values(conversation []message) map[string]any {
	system, merged := []string{}, []*message{}
	for at := range conversation {
		this := conversation[at]
		if this.Role == "system" {
			system = append(system, this.Content)
		}
		if last := len(merged) - 1; last >= 0 && merged[last].Role == this.Role && this.Role != "tool" {
			merged[last].Content += "\n\n" + this.Content
		} else {
			merged = append(merged, &this)
		}
	}
	return map[string]any{"System": strings.Join(system, "\n\n"), "Messages": merged, "Response": ""}
}

func refuse(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
