/** The two inner modules of `xmlrpc` we use; its published types describe only the outer client and server. */

declare module 'xmlrpc/lib/serializer.js' {
  interface Serializer {
    serializeMethodCall(method: string, params: readonly unknown[], encoding?: string): string;
  }
  const serializer: Serializer;
  export = serializer;
}

declare module 'xmlrpc/lib/deserializer.js' {
  import type { Readable } from 'node:stream';

  class Deserializer {
    constructor(encoding?: string);
    /** A stream of sax, which tells of every element. */
    readonly parser: {
      on(event: 'opentag' | 'closetag', listener: () => void): void;
    };
    deserializeMethodResponse(
      stream: Readable,
      callback: (error: Error | null, value?: unknown) => void,
    ): void;
  }
  export = Deserializer;
}

declare module 'xmlrpc/lib/customtype.js' {
  class CustomType {
    constructor(raw: string);
    tagName: string;
  }
  export = CustomType;
}
