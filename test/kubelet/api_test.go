package kubelet

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// api is the kubelet's HTTPS API, with the certificate that it made itself.
type api struct {
	client *http.Client
	base   string
}

func newAPI() *api {
	return &api{
		client: &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}},
		base:   fmt.Sprintf("https://127.0.0.1:%d", kubeletPort),
	}
}

func (a *api) get(path string) ([]byte, error) {
	r, err := a.client.Get(a.base + path)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, r.Status, body)
	}
	return body, err
}

func (a *api) json(path string, into any) error {
	body, err := a.get(path)
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	return err
}

func (a *api) pods() ([]corev1.Pod, error) {
	var list corev1.PodList
	err := a.json("/pods", &list)
	return list.Items, err
}
