package cri

// A chunk of a list that is streamed has fewer bytes than any client takes at
// once (4 MiB is what gRPC allows without being told more; the kubelet takes 16)
// and few entries enough to be read while the next ones are encoded.
const (
	chunkBytes   = 3 << 20
	chunkEntries = 1000
)

// stream sends entries in chunks, each entry once. An empty list is no chunk at
// all (CRI: lists of at least one item).
func stream[T any](list []T, size func(T) int, send func([]T) error) error {
	for len(list) > 0 {
		n, bytes := 1, size(list[0])
		for n < len(list) && n < chunkEntries {
			if bytes += size(list[n]); bytes > chunkBytes {
				break
			}
			n++
		}
		if err := send(list[:n]); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// streamEntries is stream of encoded entries.
func streamEntries(list [][]byte, send func([][]byte) error) error {
	return stream(list, func(b []byte) int { return len(b) }, send)
}
