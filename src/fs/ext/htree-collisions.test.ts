/**
 * Names of one hash that fill more than one leaf. No real hash gives so many, so here it is cut to
 * a few bits: only our own decoders can be asked, not e2fsck.
 */
import { expect, test, vi } from "vitest";
import { makeImage } from "../../../test/support/ext-images.ts";
import { ascii } from "../../../test/support/ext-names.ts";
import { openWriter } from "../../../test/support/ext-writer.ts";
import { listNames, newInode } from "../../../test/support/name-model.ts";
import { requireTool, scratchDirectory } from "../../../test/support/tools.ts";
import { Random } from "../../lib/random.ts";
import { dirLookup } from "./dir.ts";
import type { NameHash } from "./dir-hash.ts";
import { dirReadStable } from "./dir-order.ts";
import type { ExtInode } from "./inode.ts";
import { EXT_ROOT_INO, INDEX_FL, S_IFDIR, S_IFREG } from "./layout.ts";
import { extCreate, extLink, extUnlink } from "./namespace.ts";

vi.mock(import("./dir-hash.ts"), async (importOriginal) => {
  const original = await importOriginal();
  const hashName: typeof original.hashName = (version, name, seed): NameHash => {
    const { major, minor } = original.hashName(version, name, seed);
    return { major: (major & 0xe000_0000) >>> 0, minor };
  };
  return { ...original, hashName };
});

const hasMke2fs = requireTool("mke2fs");
const scratch = scratchDirectory("htree-collisions");

test.skipIf(!hasMke2fs)("names of one hash in many leaves are found, and removed", async () => {
  const args = ["-t", "ext4", "-b", "1024", "-O", "^has_journal"];
  const open = await openWriter(makeImage(scratch, "equal", args, { sizeText: "16M" }));
  const { writer, core } = open;
  const make = (name: string, mode: number): Promise<ExtInode> =>
    open.run((handle) =>
      extCreate(writer, handle, core.inode(EXT_ROOT_INO), ascii(name), newInode(mode)),
    );
  const dir = await make("d", S_IFDIR | 0o755);
  const file = await make("f", S_IFREG | 0o644);
  const random = new Random(5);
  const names = new Set<string>();
  for (let step = 0; step < 3000; step++) {
    if (names.size > 0 && random.below(4) === 0) {
      const name = random.pick([...names]);
      await open.run((handle) => extUnlink(writer, handle, dir, ascii(name)));
      names.delete(name);
    } else {
      const name = `n${step}-${"x".repeat(random.below(30))}`;
      await open.run((handle) => extLink(writer, handle, file, dir, ascii(name)));
      names.add(name);
    }
  }
  expect(dir.flags & INDEX_FL).not.toBe(0);
  // Eight hashes, so some hundred names, which is more than ten leaves, for each.
  expect(names.size).toBeGreaterThan(1000);
  for (const name of names) {
    expect(await core.metadata.run(() => dirLookup(core, dir, ascii(name)))).toBe(file.ino);
  }
  expect((await listNames(open, dir)).size).toBe(names.size + 2);
  const listed: string[] = [];
  for (let cookie = 0; cookie !== -1; ) {
    const from = cookie;
    const batch = await core.metadata.run(() => dirReadStable(core, dir, from));
    for (const { name } of batch.entries) listed.push(Buffer.from(name).toString());
    cookie = batch.nextCookie;
  }
  expect(listed.sort()).toEqual([".", "..", ...names].sort());
  expect(open.warnings).toEqual([]);
  await open.close();
});
