/**
 * Random changes of names on an image and in a model of it, which must agree in the end: in what
 * the decoders read, and in what e2fsck and debugfs see.
 *
 *     const model = new NameModel(open, seed);
 *     await model.steps(5000);          // creates, links, unlinks, mkdirs, rmdirs, renames
 *     await model.check();              // every directory, every name, every link count
 */
import { expect } from "vitest";
import { dirLookup, dirRead } from "../../src/fs/ext/dir.ts";
import { evictInode } from "../../src/fs/ext/evict.ts";
import type { ExtInode } from "../../src/fs/ext/inode.ts";
import { EXT_ROOT_INO, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG } from "../../src/fs/ext/layout.ts";
import { extCreate, extLink, extRmdir, extUnlink } from "../../src/fs/ext/namespace.ts";
import { extRename } from "../../src/fs/ext/rename.ts";
import { type NewInode, RENAME_EXCHANGE, RENAME_NOREPLACE } from "../../src/fs/vfs-write.ts";
import { Random } from "../../src/lib/random.ts";
import { ascii } from "./ext-names.ts";
import type { OpenWriter } from "./ext-writer.ts";

/** What a new inode of `mode` is, made by root. */
export function newInode(mode: number, changes: Partial<NewInode> = {}): NewInode {
  return { mode, umask: 0, uid: 0, gid: 0, ...changes };
}

/** A directory of the model. */
interface ModelDir {
  readonly ino: number;
  parent: ModelDir;
  isRemoved: boolean;
  readonly names: Map<string, number>;
}

/** How often each kind of change is tried. */
export interface NameWeights {
  readonly create: number;
  readonly mkdir: number;
  readonly link: number;
  readonly unlink: number;
  readonly rmdir: number;
  readonly rename: number;
  readonly exchange: number;
}

export const EVEN_WEIGHTS: NameWeights = {
  create: 40,
  mkdir: 6,
  link: 6,
  unlink: 20,
  rmdir: 4,
  rename: 20,
  exchange: 4,
};

const LOST_FOUND = "lost+found";

/** See the head of the file. */
export class NameModel {
  readonly open: OpenWriter;
  readonly random: Random;
  /** Every directory that is there. */
  readonly dirs: ModelDir[] = [];
  readonly #links = new Map<number, number>();
  readonly #weights: NameWeights;
  /** Names are this long, at most. */
  readonly #nameBytesMax: number;
  #serial = 0;

  constructor(
    open: OpenWriter,
    seed: number,
    {
      weights = EVEN_WEIGHTS,
      nameBytesMax = 40,
    }: { weights?: NameWeights; nameBytesMax?: number } = {},
  ) {
    this.open = open;
    this.random = new Random(seed);
    this.#weights = weights;
    this.#nameBytesMax = nameBytesMax;
    const root = { ino: EXT_ROOT_INO, isRemoved: false, names: new Map<string, number>() };
    this.dirs.push(Object.assign(root, { parent: root as unknown as ModelDir }));
  }

  /** Takes notice of lost+found, which every image has. */
  async begin(): Promise<void> {
    const ino = await this.open.core.metadata.run(() =>
      dirLookup(this.open.core, this.inode(EXT_ROOT_INO), ascii(LOST_FOUND)),
    );
    if (ino !== 0) this.dirs[0]!.names.set(LOST_FOUND, ino);
  }

  inode(ino: number): ExtInode {
    return this.open.core.inode(ino);
  }

  newName(): string {
    const head = `n${this.#serial++}`;
    const more = this.random.below(Math.max(1, this.#nameBytesMax - head.length));
    return head + "-".repeat(more);
  }

  async steps(count: number): Promise<void> {
    for (let step = 0; step < count; step++) await this.step();
  }

  async step(): Promise<void> {
    const kinds = Object.entries(this.#weights);
    let at = this.random.below(kinds.reduce((sum, [, weight]) => sum + weight, 0));
    for (const [kind, weight] of kinds) {
      at -= weight;
      if (at < 0) return this.change(kind as keyof NameWeights);
    }
  }

  async change(kind: keyof NameWeights): Promise<void> {
    const dir = this.random.pick(this.dirs);
    if (kind === "create") return this.create(dir);
    if (kind === "mkdir") {
      await this.mkdir(dir);
      return;
    }
    const name = this.#anyName(dir);
    if (name === undefined) return;
    const to = this.random.pick(this.dirs);
    if (kind === "link") return this.link(dir, name, to);
    if (kind === "unlink") return this.unlink(dir, name);
    if (kind === "rmdir") return this.rmdir(dir, name);
    if (kind === "rename") return this.rename(dir, name, to, 0);
    return this.rename(dir, name, to, RENAME_EXCHANGE);
  }

  #anyName(dir: ModelDir): string | undefined {
    if (dir.names.size === 0) return undefined;
    let at = this.random.below(dir.names.size);
    for (const name of dir.names.keys()) {
      if (at-- === 0) return name === LOST_FOUND ? undefined : name;
    }
    return undefined;
  }

  #dirOf(ino: number | undefined): ModelDir | undefined {
    return this.dirs.find((dir) => dir.ino === ino);
  }

  async create(dir: ModelDir, name: string = this.newName()): Promise<void> {
    const kind = this.random.below(10);
    const what =
      kind === 0
        ? newInode(S_IFLNK | 0o777, { target: ascii("t".repeat(1 + this.random.below(200))) })
        : newInode((kind === 1 ? S_IFIFO : S_IFREG) | 0o644);
    const inode = await this.open.run((handle) =>
      extCreate(this.open.writer, handle, this.inode(dir.ino), ascii(name), what),
    );
    dir.names.set(name, inode.ino);
    this.#links.set(inode.ino, 1);
  }

  async mkdir(dir: ModelDir, name: string = this.newName()): Promise<ModelDir> {
    const inode = await this.open.run((handle) =>
      extCreate(
        this.open.writer,
        handle,
        this.inode(dir.ino),
        ascii(name),
        newInode(S_IFDIR | 0o755),
      ),
    );
    dir.names.set(name, inode.ino);
    const made: ModelDir = { ino: inode.ino, parent: dir, isRemoved: false, names: new Map() };
    this.dirs.push(made);
    return made;
  }

  async link(dir: ModelDir, name: string, to: ModelDir): Promise<void> {
    const ino = dir.names.get(name)!;
    if (this.#dirOf(ino) !== undefined) return;
    const made = this.newName();
    await this.open.run((handle) =>
      extLink(this.open.writer, handle, this.inode(ino), this.inode(to.ino), ascii(made)),
    );
    to.names.set(made, ino);
    this.#links.set(ino, this.#links.get(ino)! + 1);
  }

  async unlink(dir: ModelDir, name: string): Promise<void> {
    const ino = dir.names.get(name)!;
    const unlinking = this.open.run((handle) =>
      extUnlink(this.open.writer, handle, this.inode(dir.ino), ascii(name)),
    );
    if (this.#dirOf(ino) !== undefined) {
      await expect(unlinking).rejects.toMatchObject({ code: "EISDIR" });
      return;
    }
    const inode = await unlinking;
    dir.names.delete(name);
    await this.#dropped(inode);
  }

  async #dropped(inode: ExtInode): Promise<void> {
    const links = this.#links.get(inode.ino)! - 1;
    expect(inode.linksCount).toBe(links);
    this.#links.set(inode.ino, links);
    if (links > 0) return;
    this.#links.delete(inode.ino);
    await evictInode(this.open.writer, inode);
  }

  async rmdir(dir: ModelDir, name: string): Promise<void> {
    const victim = this.#dirOf(dir.names.get(name));
    const removing = this.open.run((handle) =>
      extRmdir(this.open.writer, handle, this.inode(dir.ino), ascii(name)),
    );
    const code = victim === undefined ? "ENOTDIR" : victim.names.size > 0 ? "ENOTEMPTY" : "";
    if (code !== "") {
      await expect(removing).rejects.toMatchObject({ code });
      return;
    }
    const inode = await removing;
    dir.names.delete(name);
    this.#forget(victim!);
    await evictInode(this.open.writer, inode);
  }

  #forget(dir: ModelDir): void {
    dir.isRemoved = true;
    this.dirs.splice(this.dirs.indexOf(dir), 1);
  }

  /** True if `dir` lies in `above` or is it. */
  #isWithin(dir: ModelDir, above: ModelDir): boolean {
    for (let at = dir; ; at = at.parent) {
      if (at === above) return true;
      if (at.parent === at) return false;
    }
  }

  async rename(dir: ModelDir, name: string, to: ModelDir, flags: number): Promise<void> {
    const isFresh = flags !== RENAME_EXCHANGE && this.random.below(2) === 0;
    const toName = isFresh ? this.newName() : this.#anyName(to);
    if (toName === undefined) return;
    const ino = dir.names.get(name)!;
    const targetIno = to.names.get(toName);
    const source = this.#dirOf(ino);
    const target = this.#dirOf(targetIno);
    // The walk to the root is the caller's, as in the kernel.
    if (source !== undefined && this.#isWithin(to, source)) return;
    if (flags === RENAME_EXCHANGE && target !== undefined && this.#isWithin(dir, target)) return;
    const run = (mode: number): Promise<ExtInode | undefined> =>
      this.open.run((handle) =>
        extRename(
          this.open.writer,
          handle,
          { dir: this.inode(dir.ino), name: ascii(name) },
          { dir: this.inode(to.ino), name: ascii(toName) },
          mode,
        ),
      );
    if (targetIno !== undefined && flags === 0) {
      await expect(run(RENAME_NOREPLACE)).rejects.toMatchObject({ code: "EEXIST" });
    }
    const code = flags === 0 ? this.#refusal(ino, targetIno, source, target, dir) : "";
    if (code !== "") {
      await expect(run(flags)).rejects.toMatchObject({ code });
      return;
    }
    const lost = await run(flags);
    if (ino === targetIno) return;
    if (flags === RENAME_EXCHANGE) dir.names.set(name, targetIno!);
    else dir.names.delete(name);
    to.names.set(toName, ino);
    if (source !== undefined) source.parent = to;
    if (flags === RENAME_EXCHANGE) {
      if (target !== undefined) target.parent = dir;
      return;
    }
    if (target !== undefined) {
      this.#forget(target);
      await evictInode(this.open.writer, lost!);
    } else if (targetIno !== undefined) await this.#dropped(lost ?? this.inode(targetIno));
  }

  #refusal(
    ino: number,
    targetIno: number | undefined,
    source: ModelDir | undefined,
    target: ModelDir | undefined,
    dir: ModelDir,
  ): string {
    if (targetIno === undefined || targetIno === ino) return "";
    if (target !== undefined && target === dir) return "ENOTEMPTY";
    if (source === undefined && target !== undefined) return "EISDIR";
    if (source !== undefined && target === undefined) return "ENOTDIR";
    return target !== undefined && target.names.size > 0 ? "ENOTEMPTY" : "";
  }

  /** Compares every directory with the model, by listing and by looking up. */
  async check(): Promise<void> {
    const { core } = this.open;
    for (const dir of this.dirs) {
      const inode = await core.metadata.run(() => core.inode(dir.ino));
      const found = await listNames(this.open, inode);
      const wanted = new Map(dir.names);
      wanted.set(".", dir.ino);
      wanted.set("..", dir.parent.ino);
      expect([...found].sort()).toEqual([...wanted].sort());
      for (const [name, ino] of wanted) {
        expect(await core.metadata.run(() => dirLookup(core, inode, ascii(name)))).toBe(ino);
      }
      expect(await core.metadata.run(() => dirLookup(core, inode, ascii("absent")))).toBe(0);
    }
    for (const [ino, links] of this.#links) {
      expect((await core.metadata.run(() => core.inode(ino))).linksCount).toBe(links);
    }
    expect(this.open.warnings).toEqual([]);
  }
}

/** All names of a directory, each of which it lists once. */
export async function listNames(open: OpenWriter, dir: ExtInode): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (let cookie = 0; cookie !== -1; ) {
    const at = cookie;
    const batch = await open.core.metadata.run(() => dirRead(open.core, dir, at));
    for (const { name, ino } of batch.entries) {
      const text = new TextDecoder().decode(name);
      expect(found.has(text)).toBe(false);
      found.set(text, ino);
    }
    cookie = batch.nextCookie;
  }
  return found;
}
