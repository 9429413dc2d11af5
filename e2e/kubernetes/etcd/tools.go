//go:build tools

// Package tools names what is built, so that go.mod and go.sum keep all of it.
package tools

import _ "go.etcd.io/etcd/server/v3"
