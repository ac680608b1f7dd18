/**
 * One number has one object while somebody holds it, and only so many are held by the cache
 * itself.
 */
import { expect, test } from "vitest";
import type { ExtInode } from "./inode.ts";
import { InodeCache } from "./inode-cache.ts";

/** The cache looks at nothing but the number. */
function fake(ino: number): ExtInode {
  return { ino } as ExtInode;
}

test("an inode that is still held comes back as the same object, however many came after it", () => {
  const cache = new InodeCache(256);
  const held = fake(7);
  cache.add(held);
  for (let ino = 100; ino < 20_100; ino++) cache.add(fake(ino));
  expect(cache.get(7)).toBe(held);
  expect(cache.get(7)).toBe(held);
  expect([...cache.inodes()].filter((inode) => inode.ino === 7)).toEqual([held]);
});

test("inodes lists each that is alive once, and clear forgets them", () => {
  const cache = new InodeCache(256);
  const all = Array.from({ length: 9000 }, (_, at) => fake(at + 1));
  for (const inode of all) cache.add(inode);
  cache.get(1);
  const listed = [...cache.inodes()].map((inode) => inode.ino);
  expect(new Set(listed).size).toBe(listed.length);
  expect(listed.length).toBe(9000);
  expect(all[8999]).toBeDefined();
  cache.clear();
  expect(cache.get(9000)).toBeUndefined();
  expect([...cache.inodes()]).toEqual([]);
});
