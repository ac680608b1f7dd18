/**
 * InodeList: a list of inodes for the flusher, the newest at the head, the eldest taken first.
 *
 *     head [ newest ] - [ ] - [ ] - [ eldest ] tail
 *
 *  1. An inode is on one list at most: the one of its `list`.
 *  2. `count` is the number of inodes on it.
 *
 * After `struct list_head` and `b_dirty` in `struct bdi_writeback` of Linux.
 */
import { assert } from "../lib/assert.ts";
import type { WbInode, WbList } from "./superblock.ts";

/** See the head of the file. */
export class InodeList implements WbList {
  head: WbInode | null = null;
  tail: WbInode | null = null;
  count = 0;

  /** Takes `wb` off the list that it is on, and makes it the newest of this one. */
  moveToHead(wb: WbInode): void {
    wb.list?.remove(wb);
    wb.list = this;
    wb.before = null;
    wb.next = this.head;
    if (this.head === null) this.tail = wb;
    else this.head.before = wb;
    this.head = wb;
    this.count++;
  }

  /** Makes all of `other` newer than what is here, in their order, and empties it. */
  takeAll(other: InodeList): void {
    while (other.tail !== null) this.moveToHead(other.tail);
  }

  remove(wb: WbInode): void {
    assert(wb.list === this, "invariant 1: an inode leaves the list that it is on");
    if (wb.before === null) this.head = wb.next;
    else wb.before.next = wb.next;
    if (wb.next === null) this.tail = wb.before;
    else wb.next.before = wb.before;
    wb.list = null;
    wb.next = null;
    wb.before = null;
    this.count--;
  }

  /** The inodes, the eldest first. */
  *eldestFirst(): IterableIterator<WbInode> {
    for (let wb = this.tail; wb !== null; ) {
      const { before } = wb;
      yield wb;
      wb = before;
    }
  }

  /** Throws `AssertionError` if the links or the count are wrong. */
  verify(): void {
    let count = 0;
    let before: WbInode | null = null;
    for (let wb = this.head; wb !== null; wb = wb.next) {
      assert(wb.list === this, "invariant 1: who is on a list knows it");
      assert(wb.before === before, "a list is linked both ways");
      before = wb;
      count++;
    }
    assert(this.tail === before, "the tail is the last inode");
    assert(this.count === count, "invariant 2: inodes are counted");
  }
}
