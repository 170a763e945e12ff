package logs

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	carryMagic = 0x0131474f4c545242 // "BRTLOG1\x01"
	headerSize = 256
	page       = 4096
	region     = 48 << 10 // per stream; the header takes the start of the first
	carrySize  = 2 * region
	maxRead    = 16 << 10 // a whole pipe
	stateBits  = 21
	stateMask  = 1<<stateBits - 1
)

// header is the start of the mapping. The words of the record are true while
// Active is set; Active and State change last, by one store each.
type header struct {
	Magic     uint64
	State     [2]uint64
	LastTime  int64
	LostLines uint64
	LostBytes uint64
	Untold    uint64 // of LostLines, not yet said in the log

	Active uint64
	Stream uint64 // the record: a write to the log in progress
	Word   uint64 // the stream's state when it began
	To     uint64 // [start,To) is being written
	Time   int64
	Dev    uint64
	Inode  uint64
	Size   int64 // of the log before
	Length uint64
}

// firstPage is how much of an area lies in its first page of the file.
var firstPage = [2]int{page - headerSize, page}

// carry is the mapped file.
type carry struct {
	file  *os.File
	mem   []byte
	head  *header
	areas [2][]byte
	have  [2]int // bytes of each area with memory behind them
}

// state is a stream's word, taken apart.
type state struct{ start, end, intent int }

func (s state) word() uint64 {
	return uint64(s.start)<<(2*stateBits) | uint64(s.end)<<stateBits | uint64(s.intent)
}

func parseState(w uint64) state {
	return state{int(w >> (2 * stateBits)), int(w >> stateBits & stateMask), int(w & stateMask)}
}

// valid checks what a foreign hand could have written.
func (s state) valid(area int) bool {
	return s.start <= s.end && s.end+s.intent <= area && s.intent <= maxRead
}

func (c *carry) state(s Stream) state { return parseState(atomic.LoadUint64(&c.head.State[s])) }

func (c *carry) setState(s Stream, st state) { atomic.StoreUint64(&c.head.State[s], st.word()) }

// createCarry makes the file anew.
func createCarry(path string) (*carry, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(carrySize); err != nil {
		f.Close()
		return nil, err
	}
	c, err := mapCarry(f)
	if err == nil {
		atomic.StoreUint64(&c.head.Magic, carryMagic)
	}
	return c, err
}

// errDamaged is a carry file that was not left by us.
var errDamaged = errors.New("carry file is damaged")

// openCarry maps the file that another process left.
func openCarry(path string) (*carry, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && (!st.Mode().IsRegular() || st.Size() != carrySize) {
		err = fmt.Errorf("%w: size %d", errDamaged, st.Size())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	c, err := mapCarry(f)
	if err != nil {
		return nil, err
	}
	if !c.sane() {
		c.close()
		return nil, fmt.Errorf("%w: bad header", errDamaged)
	}
	return c, nil
}

func (c *carry) sane() bool {
	h := c.head
	ok := h.Magic == carryMagic
	for s := range c.areas {
		ok = ok && parseState(h.State[s]).valid(len(c.areas[s]))
	}
	if h.Active != 0 && ok {
		ok = h.Stream < 2
		if ok && h.State[h.Stream] == h.Word {
			st := parseState(h.Word)
			ok = int(h.To) > st.start && int(h.To) <= st.end && h.To <= carrySize
		}
	}
	return ok
}

// mapCarry maps the file and makes sure of the pages that every container
// touches. It owns f.
func mapCarry(f *os.File) (*carry, error) {
	c := &carry{file: f}
	for s := range c.areas {
		if err := unix.Fallocate(int(f.Fd()), 0, int64(s*region), page); err != nil {
			f.Close()
			return nil, os.NewSyscallError("fallocate", err)
		}
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, carrySize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		f.Close()
		return nil, os.NewSyscallError("mmap", err)
	}
	c.mem = mem
	c.head = (*header)(unsafe.Pointer(&mem[0]))
	c.areas = [2][]byte{mem[headerSize:region:region], mem[region:]}
	for s := range c.areas {
		c.have[s] = firstPage[s]
	}
	return c, nil
}

// grow gets memory for the first n bytes of an area and returns how many have
// some: fewer on a full tmpfs.
func (c *carry) grow(s Stream, n int) int {
	if n <= c.have[s] {
		return n
	}
	base := int(s)*region + (headerSize * (1 - int(s))) // of the area in the file
	from := base + c.have[s]
	to := min((base+n+page-1)/page*page, (int(s)+1)*region)
	if unix.Fallocate(int(c.file.Fd()), 0, int64(from), int64(to-from)) != nil {
		return c.have[s]
	}
	c.have[s] = to - base
	return n
}

// trim gives back the pages beyond the first that hold nothing.
func (c *carry) trim() {
	for s := range c.areas {
		s := Stream(s)
		first := firstPage[s]
		if c.have[s] == first || c.state(s).end > first {
			continue
		}
		from, to := int64(int(s)*region+page), int64((int(s)+1)*region)
		if unix.Fallocate(int(c.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from) == nil {
			c.have[s] = first
		}
	}
}

func (c *carry) close() {
	unix.Munmap(c.mem)
	c.file.Close()
	c.mem, c.head = nil, nil
}
