/**
 * What programs are told of writes that fail under an opened volume, and what they can rely on
 * then. The loops over all faults are in `fault-loops.test.ts`.
 */
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { Random } from "../../src/lib/random.ts";
import { makeImage } from "../support/ext-images.ts";
import { FaultVolume, type OpenFaultyFile } from "../support/fault-volume.ts";
import { requireTool, scratchDirectory } from "../support/tools.ts";

const hasTools = ["mke2fs", "e2fsck"].map(requireTool).every(Boolean);
const scratch = scratchDirectory("write-errors");
const TYPES = ["ext4", "ext2"] as const;
const CONTENT: Uint8Array = new Random(2).bytes(50_000);
/** Longer than it takes until a transaction is committed by itself. */
const COMMIT_MS = 10_000;
/** Longer than it takes until what is dirty is written by itself. */
const EXPIRE_MS = 40_000;

/** What `call` fails with; "" if it does not. */
async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "";
  } catch (thrown) {
    return (thrown as { code?: string }).code ?? String(thrown);
  }
}

describe.skipIf(!hasTools).each(TYPES)("on %s", (type) => {
  let image: Uint8Array;
  beforeAll(() => {
    const args = ["-t", type, "-b", "1024"];
    image = new Uint8Array(readFileSync(makeImage(scratch, type, args, { sizeText: "8M" })));
  });

  async function withVolume(
    policy: "keep" | "drop",
    work: (volume: FaultVolume) => Promise<void>,
    bytes: Uint8Array = image.slice(),
  ): Promise<Uint8Array> {
    const volume = await FaultVolume.open(bytes, policy);
    await volume.settle(work(volume));
    volume.heal();
    await volume.close();
    expect(volume.complaints).toEqual([]);
    return bytes;
  }

  async function opened(volume: FaultVolume, count: number): Promise<OpenFaultyFile[]> {
    const handles: OpenFaultyFile[] = [];
    for (let at = 0; at < count; at++) {
      handles.push((await volume.open("/file", at === 0 ? "w+" : "r+"))!);
    }
    return handles;
  }

  /** The file is synced, then written to, and that write fails when the flusher comes to it. */
  async function withLostWrite(
    volume: FaultVolume,
    handles: readonly OpenFaultyFile[],
  ): Promise<void> {
    const [first] = handles;
    await first!.write(0, new Uint8Array(CONTENT.length));
    await first!.sync();
    await volume.sync();
    await first!.write(0, CONTENT);
    await volume.pass(COMMIT_MS); // What is written next is the data.
    volume.arm({ kind: "write", skipCount: 0, length: "once", policy: "keep" });
    await volume.pass(EXPIRE_MS);
    expect(volume.hasFailed).toBe(true);
    expect(volume.abortCause).toBeUndefined();
  }

  test.each(["keep", "drop"] as const)(
    "each open file is told of a lost write once, whoever was told before (%s)",
    async (policy) => {
      await withVolume(policy, async (volume) => {
        const handles = await opened(volume, 3);
        const codes: string[] = [];
        await withLostWrite(volume, handles);
        for (const { handle } of handles) codes.push(await codeOf(handle.sync()));
        for (const { handle } of handles) codes.push(await codeOf(handle.sync()));
        expect(codes).toEqual(["EIO", "EIO", "EIO", "", "", ""]);
        const late = await volume.open("/file", "r+");
        expect(await codeOf(late!.handle.sync())).toBe("");
      });
    },
  );

  test("what could not be written is kept, and down once an fsync has succeeded", async () => {
    const bytes = image.slice();
    let crashed = bytes;
    const work = async (volume: FaultVolume): Promise<void> => {
      const [open] = await opened(volume, 1);
      await withLostWrite(volume, [open!]);
      expect(await codeOf(open!.handle.sync())).toBe("EIO");
      expect(await codeOf(open!.handle.sync())).toBe("");
      crashed = bytes.slice();
    };
    await withVolume("keep", work, bytes);
    await withVolume(
      "keep",
      async (volume) => {
        expect(Buffer.compare(await volume.fs.readFile("/file"), CONTENT)).toBe(0);
      },
      crashed,
    );
  });

  test("what cannot be written replaces nothing", async () => {
    const bytes = await withVolume("keep", async (volume) => {
      await volume.put("/old", CONTENT);
      await volume.sync();
      await volume.put("/new", CONTENT.slice(100));
      volume.arm({ kind: "write", skipCount: 0, length: "forever", policy: "keep" });
      expect(await codeOf(volume.fs.rename("/new", "/old"))).toBe("EIO");
      expect((await volume.fs.stat("/old")).size).toBe(CONTENT.length);
      volume.heal();
      expect(volume.abortCause).toBeUndefined();
      await volume.fs.rename("/new", "/old");
    });
    await withVolume(
      "keep",
      async (volume) => {
        const { length } = await volume.fs.readFile("/old");
        expect(length).toBe(CONTENT.length - 100);
      },
      bytes,
    );
  });

  test("after a failed write of metadata nothing changes any more, and reads go on", async () => {
    await withVolume("keep", async (volume) => {
      await volume.put("/file", CONTENT);
      await volume.sync();
      await volume.fs.mkdir("/dir");
      volume.arm({ kind: "write", skipCount: 0, length: "once", policy: "keep" });
      expect(await codeOf(volume.fs.open("/dir").then((dir) => dir.sync()))).toBe("EIO");
      expect(volume.abortCause).toBeDefined();
      const calls = [
        volume.fs.mkdir("/more"),
        volume.fs.unlink("/file"),
        volume.fs.rename("/file", "/other"),
        volume.fs.chmod("/file", 0o600),
        volume.fs.truncate("/file", 10),
        volume.fs.writeFile("/new", "text"),
      ];
      expect(await Promise.all(calls.map(codeOf))).toEqual(calls.map(() => "EROFS"));
      expect(Buffer.compare(await volume.fs.readFile("/file"), CONTENT)).toBe(0);
      expect(await volume.fs.readdir("/")).toContain("dir");
    });
  });
});
