import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { requireTool, runTool, scratchDirectory } from "../../../test/support/tools.ts";
import { VirtualTime } from "../../../test/support/virtual-time.ts";
import { StoreBlockDevice } from "../../block/block-device.ts";
import { PageCache } from "../../cache/page-cache.ts";
import { VolumeFs } from "../../front/promises.ts";
import { EAGAIN } from "../../lib/errno.ts";
import { Random } from "../../lib/random.ts";
import { MIB } from "../../lib/units.ts";
import { CountingStore } from "../../store/counting-store.ts";
import { MemoryStore } from "../../store/memory-store.ts";
import { type ExtFileSystem, mountExt } from "./ext-fs.ts";
import { ExtVolumeWriter } from "./ext-volume-writer.ts";
import type { ExtInode } from "./inode.ts";

const hasTools = requireTool("mke2fs") && requireTool("e2fsck");
const scratch = scratchDirectory("volume-writer");
const CALLER = { uid: 0, gid: 0, groups: [], umask: 0o022 };
const EXT4: readonly string[] = ["-t", "ext4", "-b", "4096"];

let imageCount = 0;

/** A volume on an image in memory, under a clock of its own. */
class TimedVolume {
  readonly time: VirtualTime;
  readonly store: CountingStore;
  readonly bytes: Uint8Array;
  readonly fileSystem: ExtFileSystem;
  readonly fs: VolumeFs;

  constructor(
    time: VirtualTime,
    store: CountingStore,
    bytes: Uint8Array,
    fileSystem: ExtFileSystem,
  ) {
    this.time = time;
    this.store = store;
    this.bytes = bytes;
    this.fileSystem = fileSystem;
    const context = { caller: CALLER, clock: time.clock, random: new Random(3) };
    this.fs = new VolumeFs(fileSystem, context);
  }

  static async open(args: readonly string[] = EXT4): Promise<TimedVolume> {
    const path = makeImage(scratch, `image-${imageCount++}`, args, { sizeText: "8M" });
    const bytes = new Uint8Array(readFileSync(path));
    const time = new VirtualTime();
    const { clock } = time;
    const store = new CountingStore(new MemoryStore(bytes));
    const bdev = new StoreBlockDevice(store, { clock });
    const cache = new PageCache({ arenaBytes: 4 * MIB, clock });
    const options = { clock, writable: true, random: new Random(5) };
    return new TimedVolume(time, store, bytes, await time.settle(mountExt(bdev, cache, options)));
  }

  get writer(): ExtVolumeWriter {
    const { writer } = this.fileSystem;
    if (!(writer instanceof ExtVolumeWriter)) throw new Error("it is mounted for writing");
    return writer;
  }

  expectClean(): void {
    const path = join(scratch, "checked.img");
    writeFileSync(path, this.bytes);
    runTool("e2fsck", ["-fn", path]);
  }

  /** Nothing is wrong but that there is an inode without a name, which is deleted. */
  expectMended(): void {
    const path = join(scratch, "mended.img");
    writeFileSync(path, this.bytes);
    runTool("e2fsck", ["-p", path], { okCodes: [0, 1] });
    runTool("e2fsck", ["-fn", path]);
  }

  async close(): Promise<void> {
    await this.time.settle(this.fs.closeAll());
    await this.time.settle(this.fileSystem.close());
    this.expectClean();
  }
}

describe.skipIf(!hasTools)("freezing", () => {
  test.each([
    ["with a journal", EXT4],
    ["without one", [...EXT4, "-O", "^has_journal"]],
  ])("%s: a file without a name that is closed meanwhile waits for the end", async (_, args) => {
    const volume = await TimedVolume.open(args);
    const { fs, time, writer } = volume;
    const handle = await time.settle(fs.open("/file", "w+"));
    await time.settle(handle.writeFile("content"));
    await time.settle(fs.unlink("/file"));
    const frozen = writer.freeze();
    const closed = handle.close();
    await time.settle(frozen);
    volume.expectMended();
    await time.settle(writer.thaw());
    await time.settle(closed);
    await volume.close();
  });

  test("a file without a name that is closed meanwhile does not hold up a trim", async () => {
    const volume = await TimedVolume.open();
    const { fs, time, writer } = volume;
    const handle = await time.settle(fs.open("/file", "w+"));
    await time.settle(handle.writeFile("content"));
    await time.settle(fs.unlink("/file"));
    const trimmed = writer.trim();
    const closed = handle.close();
    await time.settle(trimmed);
    await time.settle(closed);
    await volume.close();
  });

  test("a sync of what is frozen does not wait for a thaw", async () => {
    const volume = await TimedVolume.open();
    const { fs, time, writer } = volume;
    const handle = await time.settle(fs.open("/file", "w+"));
    await time.settle(fs.unlink("/file"));
    await time.settle(writer.freeze());
    const closed = handle.close();
    await time.settle(writer.sync());
    await time.settle(writer.thaw());
    await time.settle(closed);
    await volume.close();
  });

  test("a write that must not wait is told to come again", async () => {
    const volume = await TimedVolume.open();
    const { fs, time, writer } = volume;
    const handle = await time.settle(fs.open("/file", "w+"));
    await time.settle(handle.writeFile("before"));
    const frozen = writer.freeze();
    expect(handle.writeSync("during", 0)).toBe(-EAGAIN);
    await time.settle(frozen);
    expect(handle.writeSync("during", 0)).toBe(-EAGAIN);
    await time.settle(writer.thaw());
    expect(await time.settle(fs.readFile("/file", "utf8"))).toBe("before");
    expect(handle.writeSync("behind", 0)).toBe(6);
    await volume.close();
  });

  test("reads of what is frozen write nothing", async () => {
    const volume = await TimedVolume.open();
    const { fs, time, store, writer } = volume;
    await time.settle(fs.writeFile("/file", "content"));
    await time.settle(writer.freeze());
    const { writes } = store;
    await time.pass(1_000);
    await time.settle(fs.readFile("/file"));
    await time.pass(60_000);
    expect(store.writes).toBe(writes);
    volume.expectClean();
    await time.settle(writer.thaw());
    await volume.close();
  });
});

describe.skipIf(!hasTools)("an inode that is gone", () => {
  test("is not opened any more by who has found it before", async () => {
    const volume = await TimedVolume.open();
    const { fs, time, fileSystem, writer } = volume;
    await time.settle(fs.writeFile("/file", "content"));
    const { ino } = await time.settle(fs.stat("/file"));
    const inode = await fileSystem.inode(ino);
    await time.settle(fs.unlink("/file"));
    expect(() => writer.retain(inode)).toThrow(expect.objectContaining({ code: "ENOENT" }));
    expect((inode as ExtInode).openCount).toBe(0);
    await volume.close();
  });

  test("is not changed by who has found it before: its number may be another's", async () => {
    const volume = await TimedVolume.open();
    const { fs, time, fileSystem, writer } = volume;
    await time.settle(fs.writeFile("/old", "content"));
    const { ino } = await time.settle(fs.stat("/old"));
    const old = await fileSystem.inode(ino);
    await time.settle(fs.unlink("/old"));
    await time.settle(writer.sync());
    await time.settle(fs.writeFile("/new", "another"));
    expect((await time.settle(fs.stat("/new"))).ino).toBe(ino);
    const change = async (): Promise<void> => writer.setAttributes(old, { mode: 0o777 });
    await expect(time.settle(change())).rejects.toMatchObject({ code: "ENOENT" });
    const set = async (): Promise<void> => writer.setXattr(old, "user.a", Uint8Array.of(1), 0);
    await expect(time.settle(set())).rejects.toMatchObject({ code: "ENOENT" });
    writer.noteAccess(old);
    await time.settle(writer.sync());
    expect((await time.settle(fs.stat("/new"))).mode & 0o777).toBe(0o644);
    await volume.close();
  });
});
