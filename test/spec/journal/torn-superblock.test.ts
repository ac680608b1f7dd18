/**
 * A superblock at home that a power cut has torn: the log's copy takes its place where the log is
 * needed, and nothing does where it is not.
 */
import { describe, expect, test } from "vitest";
import { openImage } from "../../../src/front/open-image.ts";
import { superblockChecksum } from "../../../src/fs/ext/checksum.ts";
import { SB } from "../../../src/fs/ext/layout.ts";
import { le32, putLe32 } from "../../../src/lib/bytes.ts";
import { Random } from "../../../src/lib/random.ts";
import { expectClean, makeBytes } from "../../support/fast-image.ts";

const RECOVER = 4;

/** An image as after a power cut: `/kept` is in the log alone, and so is a superblock. */
async function dirtyBytes(): Promise<Uint8Array> {
  const bytes = await makeBytes([]);
  const volume = await openImage(bytes, { writable: true, random: new Random(1) });
  await volume.fs.mkdir("/kept");
  await volume.sync();
  const cut = bytes.slice();
  await volume.close();
  expect(le32(cut, 1024 + SB.s_feature_incompat) & RECOVER).toBe(RECOVER);
  return cut;
}

/** Has the second sector of the superblock say something else than the first. */
function tear(bytes: Uint8Array): Uint8Array {
  const torn = bytes.slice();
  putLe32(torn, 1024 + SB.s_checksum, ~le32(torn, 1024 + SB.s_checksum));
  return torn;
}

describe("a torn superblock", () => {
  test("is read from the log, where nothing is written", async () => {
    const torn = tear(await dirtyBytes());
    const before = torn.slice();
    const volume = await openImage(torn);
    expect(await volume.fs.readdir("/")).toContain("kept");
    expect(volume.info().warnings.join()).toMatch(/torn.*journal is used/);
    await volume.close();
    expect(Buffer.compare(torn, before)).toBe(0);
  });

  test("is whole again after a writable open", async () => {
    const torn = tear(await dirtyBytes());
    const volume = await openImage(torn, { writable: true });
    expect(await volume.fs.readdir("/")).toContain("kept");
    await volume.fs.mkdir("/more");
    await volume.close();
    const raw = torn.subarray(1024, 2048);
    expect(superblockChecksum(raw)).toBe(le32(raw, SB.s_checksum));
    await expectClean(torn);
  });

  test("is refused where the log is not needed, is not to be looked at, or lacks it", async () => {
    const clean = await makeBytes([]);
    for (const writable of [false, true]) {
      await expect(openImage(tear(clean), { writable })).rejects.toMatchObject({ code: "EBADMSG" });
    }
    const torn = tear(await dirtyBytes());
    await expect(openImage(torn, { noload: true })).rejects.toMatchObject({ code: "EBADMSG" });
    putLe32(
      torn,
      1024 + SB.s_feature_incompat,
      le32(torn, 1024 + SB.s_feature_incompat) & ~RECOVER,
    );
    await expect(openImage(torn)).rejects.toMatchObject({ code: "EBADMSG" });
    const other = tear(await dirtyBytes());
    other[1024 + SB.s_uuid]! ^= 1; // Of the file system that the log is of, it is another one.
    await expect(openImage(other)).rejects.toMatchObject({ code: "EBADMSG" });
  });
});
