/**
 * A volume that is open for writing, as a whole: one writer, watching, locking, freezing, used
 * ranges, files without a name, and what is left when it is closed.
 */
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openImage } from "../../src/front/open-image.ts";
import type { Volume } from "../../src/front/volume.ts";
import { realClock } from "../../src/lib/clock.ts";
import { MIB } from "../../src/lib/units.ts";
import { CountingStore } from "../../src/store/counting-store.ts";
import { MemoryStore } from "../../src/store/memory-store.ts";
import { requireTool, runTool, scratchDirectory } from "../support/tools.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck") && requireTool("dumpe2fs");
const scratch = scratchDirectory("volume-writes");
let count = 0;

function makeImage(type = "ext4", size = "32M"): string {
  const path = join(scratch, `${count++}.img`);
  runTool("mke2fs", ["-q", "-F", "-t", type, path, size]);
  return path;
}

function expectClean(path: string): void {
  expect(runTool("e2fsck", ["-fn", path])).toContain("Pass 5");
}

/** What a crash would leave now: the file as it is. */
function copyOf(path: string): string {
  const copy = join(scratch, `${count++}.img`);
  copyFileSync(path, copy);
  return copy;
}

/** `toEqual` takes minutes over megabytes. */
const isSame = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

const field = (path: string, name: string): string =>
  new RegExp(`^${name}: *(.*)$`, "m").exec(runTool("dumpe2fs", ["-h", path]))?.[1] ?? "";

async function fill(volume: Volume): Promise<void> {
  await volume.fs.mkdir("/dir");
  for (let n = 0; n < 50; n++) await volume.fs.writeFile(`/dir/${n}`, `content ${n}`.repeat(n));
  await volume.fs.writeFile("/large", new Uint8Array(5 * MIB).fill(7));
}

describe.skipIf(!hasTools)("a volume that is open for writing", () => {
  test("a second writer gets a sentence, a reader reads, and closing lets the next one in", async () => {
    const path = makeImage();
    const first = await openImage(path, { writable: true });
    await expect(openImage(path, { writable: true })).rejects.toThrow(
      "EBUSY: resource busy or locked, open '",
    );
    await (await openImage(path)).close();
    await first.close();
    await (await openImage(path, { writable: true })).close();
    expectClean(path);
  });

  test.each(["ext4", "ext3", "ext2"])(
    "%s: in use while it is open, clean when closed",
    async (type) => {
      const path = makeImage(type);
      const volume = await openImage(path, { writable: true });
      await fill(volume);
      await volume.sync();
      const crashed = copyOf(path);
      const isDirty =
        type === "ext2"
          ? field(crashed, "Filesystem state") === "not clean"
          : field(crashed, "Filesystem features").includes("needs_recovery");
      expect(isDirty).toBe(true);
      const recovered = await openImage(crashed, { writable: true });
      expect(await recovered.fs.readFile("/dir/7", "utf8")).toBe("content 7".repeat(7));
      await recovered.close();
      await volume.close();
      expect(field(path, "Filesystem state")).toBe("clean");
      expect(field(path, "Filesystem features")).not.toContain("needs_recovery");
      expectClean(path);
      if (type !== "ext2") expectClean(crashed);
    },
  );

  test("while it is frozen the image is whole and changes wait; then they go on", async () => {
    const path = makeImage();
    const volume = await openImage(path, { writable: true });
    await fill(volume);
    await volume.freeze();
    const copy = copyOf(path);
    let isDone = false;
    const writing = volume.fs.writeFile("/late", "late").then(() => {
      isDone = true;
    });
    expect(await volume.fs.readFile("/dir/3", "utf8")).toBe("content 3".repeat(3));
    await realClock.turn();
    expect(isDone).toBe(false);
    expectClean(copy);
    expect(field(copy, "Filesystem features")).not.toContain("needs_recovery");
    await volume.thaw();
    await writing;
    await volume.close();
    expectClean(path);
    const read = await openImage(path);
    expect(await read.fs.readFile("/late", "utf8")).toBe("late");
    await read.close();
  });

  test("while it is frozen an orphan file without orphans counts as empty", async () => {
    const path = join(scratch, `${count++}.img`);
    runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-O", "orphan_file", path, "32M"]);
    const volume = await openImage(path, { writable: true });
    await fill(volume);
    await volume.fs.truncate("/large", 5);
    await volume.freeze();
    expectClean(copyOf(path));
    await volume.thaw();
    await volume.fs.unlink("/large");
    await volume.close();
    expectClean(path);
  });

  test("a copy of the used ranges alone is the same file system", async () => {
    const path = makeImage("ext4", "64M");
    const volume = await openImage(path, { writable: true });
    await fill(volume);
    await volume.fs.unlink("/dir/9");
    await volume.freeze();
    const whole = readFileSync(path);
    const copy = new Uint8Array(whole.length);
    let usedBytes = 0;
    let before = -1;
    for await (const { offsetBytes, lengthBytes } of volume.usedRanges()) {
      expect(offsetBytes).toBeGreaterThan(before);
      before = offsetBytes + lengthBytes;
      usedBytes += lengthBytes;
      copy.set(whole.subarray(offsetBytes, before), offsetBytes);
    }
    const { blockBytes } = (await volume.fs.statfs("/")) as unknown as { blockBytes: number };
    expect(blockBytes).toBeUndefined(); // `statfs` has Node's names.
    const free = Number(field(path, "Free blocks")) * Number(field(path, "Block size"));
    expect(usedBytes).toBe(whole.length - free);
    const target = join(scratch, "used.img");
    writeFileSync(target, copy);
    expectClean(target);
    await volume.thaw();
    await volume.close();
    const [ours, theirs] = [await openImage(target), await openImage(path)];
    for (const one of ["/large", "/dir/49"]) {
      expect(isSame(await ours.fs.readFile(one), await theirs.fs.readFile(one))).toBe(true);
    }
    await ours.close();
    await theirs.close();
  });

  test("what is free is told to a store that can give it back, and nothing else", async () => {
    const path = makeImage();
    const bytes = new Uint8Array(readFileSync(path));
    const discarded: [number, number][] = [];
    class Discarding extends MemoryStore {
      override async discard(offsetBytes: number, lengthBytes: number): Promise<void> {
        discarded.push([offsetBytes, lengthBytes]);
        this.bytes.fill(0xdd, offsetBytes, offsetBytes + lengthBytes);
      }
    }
    const volume = await openImage(new Discarding(bytes), { writable: true });
    await fill(volume);
    await volume.fs.rm("/dir", { recursive: true });
    const told = await volume.discard();
    expect(told).toBe(discarded.reduce((sum, [, length]) => sum + length, 0));
    expect(told).toBeGreaterThan(16 * MIB);
    await volume.close();
    const target = join(scratch, "trimmed.img");
    writeFileSync(target, bytes);
    expectClean(target);
    const read = await openImage(target);
    expect(isSame(await read.fs.readFile("/large"), Buffer.alloc(5 * MIB, 7))).toBe(true);
    await read.close();
  });

  test("watchers hear of names and of content, and of nothing after they left", async () => {
    const volume = await openImage(makeImage(), { writable: true });
    await volume.fs.mkdir("/seen");
    const leaving = new AbortController();
    const events: string[] = [];
    const watching = (async () => {
      for await (const event of volume.fs.watch("/seen", { signal: leaving.signal })) {
        events.push(`${event.eventType} ${String(event.filename)}`);
      }
    })();
    await realClock.turn();
    await volume.fs.writeFile("/seen/a", "x");
    await volume.fs.rename("/seen/a", "/b");
    await volume.fs.writeFile("/elsewhere", "x");
    await volume.fs.mkdir("/seen/sub");
    await realClock.turn();
    leaving.abort();
    await expect(watching).rejects.toMatchObject({ name: "AbortError" });
    await volume.fs.unlink("/b");
    expect(events).toEqual(["rename a", "change a", "rename a", "rename sub"]);
    await volume.close();
  });

  test("locks stand between handles, and end with them", async () => {
    const volume = await openImage(makeImage(), { writable: true });
    const one = await volume.fs.open("/file", "w+");
    const two = await volume.fs.open("/file", "r+");
    expect(await one.lock()).toBe(true);
    expect(await two.lock({ try: true })).toBe(false);
    expect(await two.lock({ try: true, mode: "shared", start: 5, length: 1 })).toBe(false);
    const waiting = two.lock();
    await one.close();
    expect(await waiting).toBe(true);
    two.unlock();
    await two.close();
    await volume.close();
  });

  test("a file without a name is gone with its handle, unless it got one", async () => {
    const path = makeImage();
    const volume = await openImage(path, { writable: true });
    const O_TMPFILE = 0o20200000;
    const kept = await volume.fs.open("/", O_TMPFILE | 2);
    await kept.writeFile("kept");
    await volume.fs.link(kept, "/kept");
    await kept.close();
    const lost = await volume.fs.open("/", O_TMPFILE | 2);
    await lost.writeFile("lost");
    await lost.close();
    await volume.close();
    expectClean(path);
    const read = await openImage(path);
    expect(await read.fs.readdir("/")).toEqual(["lost+found", "kept"]);
    expect(await read.fs.readFile("/kept", "utf8")).toBe("kept");
    await read.close();
  });

  test("a read-only volume is not written, whatever is called", async () => {
    const store = new CountingStore(new MemoryStore(new Uint8Array(readFileSync(makeImage()))));
    const volume = await openImage(store);
    await expect(volume.freeze()).rejects.toMatchObject({ code: "EROFS" });
    await expect(volume.discard()).rejects.toMatchObject({ code: "EROFS" });
    await expect(volume.fs.writeFile("/x", "y")).rejects.toMatchObject({ code: "EROFS" });
    await volume.sync();
    await volume.close();
    expect([store.writes, store.flushes]).toEqual([0, 0]);
  });

  test("an image that must not be written is refused with the reason, and stays as it is", async () => {
    const path = join(scratch, "bigalloc.img");
    runTool("mke2fs", ["-q", "-F", "-t", "ext4", "-O", "bigalloc", path, "64M"]);
    const before = readFileSync(path);
    await expect(openImage(path, { writable: true })).rejects.toThrow(
      "the image may only be read: its blocks are allocated in clusters (bigalloc)",
    );
    expect(readFileSync(path).equals(before)).toBe(true);
    await (await openImage(path)).close();
  });
});
