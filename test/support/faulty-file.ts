/**
 * FaultyFile: what a file on a failing device may hold, as far as its user can know.
 *
 *     shown      what reading it must give: exact, until a call has failed half way
 *     promised   what may be there after a crash: the last fsync, and all that came after it
 *
 * After a failed call a byte may have its old or its new value, so a check is made byte by byte
 * against all candidates.
 */

/** What a call makes of the content that it finds. */
export type ContentChange = (content: Uint8Array) => Uint8Array;

/** `content` with `bytes` at `posBytes`. */
export function written(posBytes: number, bytes: Uint8Array): ContentChange {
  return (content) => {
    const result = new Uint8Array(Math.max(content.length, posBytes + bytes.length));
    result.set(content);
    result.set(bytes, posBytes);
    return result;
  };
}

/** `content` with the length `lengthBytes`. */
export function cut(lengthBytes: number): ContentChange {
  return (content) => {
    const result = new Uint8Array(lengthBytes);
    result.set(content.subarray(0, lengthBytes));
    return result;
  };
}

/** `content` with zeros from `startBytes` to `endBytes`. */
export function zeroed(startBytes: number, endBytes: number): ContentChange {
  return (content) => content.slice().fill(0, startBytes, endBytes);
}

/** What is wrong with `content`, if each of its bytes has to be one of `candidates`. */
function differenceFrom(
  content: Uint8Array,
  candidates: readonly Uint8Array[],
): string | undefined {
  const lengths = candidates.map(({ length }) => length);
  const least = Math.min(...lengths);
  const most = Math.max(...lengths);
  if (content.length < least || content.length > most) {
    return `${content.length} bytes instead of ${least} to ${most}`;
  }
  const [first] = candidates;
  if (Buffer.compare(content, first!) === 0) return undefined;
  const at = content.findIndex((byte, index) =>
    candidates.every((candidate) => (candidate[index] ?? 0) !== byte),
  );
  if (at === -1) return undefined;
  const wanted = candidates.map((candidate) => candidate[at] ?? 0).join(" or ");
  return `byte ${at} is ${content[at]} instead of ${wanted}`;
}

/** See the head of the file. */
export class FaultyFile {
  /** Made durable at least once, under the name that it has. */
  isPromised = false;
  #content: Uint8Array = new Uint8Array(0);
  #doubts: Uint8Array[] = [];
  #durable: Uint8Array[] = [];
  /** Data was given up: until it is written anew it may be missing. */
  #isLossy = false;

  /** A file that is on the device already. */
  static of(content: Uint8Array): FaultyFile {
    const file = new FaultyFile();
    file.#content = content;
    file.synced();
    return file;
  }

  get sizeBytes(): number {
    return this.#content.length;
  }

  /** What it holds if nothing has failed. */
  get content(): Uint8Array {
    return this.#content;
  }

  /** A call begins that changes the content so. Returns what is to be called when it has ended. */
  change(make: ContentChange): (isDone: boolean) => void {
    this.#durable.push(make(this.#content));
    return (isDone) => {
      const next = make(this.#content);
      if (isDone) {
        this.#content = next;
        this.#doubts = this.#doubts.map(make);
      } else {
        this.#doubts.push(next);
      }
    };
  }

  /** All that came before the call was made durable. */
  synced(): void {
    this.isPromised = true;
    if (!this.#isLossy) this.#durable = [];
    this.#durable.push(this.#content, ...this.#doubts);
  }

  /** Data could not be written, and was dropped. */
  lost(): void {
    this.#isLossy = true;
    const zeros = new Uint8Array(this.#content.length);
    this.#doubts.push(...this.#durable, zeros);
    this.#durable.push(zeros, new Uint8Array(0));
  }

  /** The name of `other` was given to this file, or was about to. */
  replaces(other: FaultyFile): void {
    this.isPromised = other.isPromised;
    this.#durable.push(this.#content, ...other.#durable, ...other.#doubts, other.#content);
  }

  /** What is wrong with `content`, which a read has given; the first part of it if `isPart`. */
  readDifference(content: Uint8Array, isPart = false): string | undefined {
    const candidates = [this.#content, ...this.#doubts];
    const { length } = content;
    return differenceFrom(
      content,
      isPart ? candidates.map((candidate) => candidate.subarray(0, length)) : candidates,
    );
  }

  /** What is wrong with `content`, which was found after a crash. */
  crashDifference(content: Uint8Array): string | undefined {
    return differenceFrom(content, [this.#content, ...this.#doubts, ...this.#durable]);
  }
}
