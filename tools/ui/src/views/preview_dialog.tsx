import type { JSX } from "react";
import { useEffect, useState } from "react";
import { Button, Dialog, Empty, ErrorBox, Loading, format, useToasts } from "../parts";
import { asRpcError, useClient } from "../rpc";
import type { ResultFile, RpcError } from "../rpc";
import { downloadResult, readResult } from "./files";
import { imageType, previewOf } from "./preview";
import type { Preview } from "./preview";

const MAX_IMAGE_BYTES = 20 << 20;
const MAX_TEXT_BYTES = 256 << 10;
const HEAD_BYTES = 64;

/** A look at a result. It is another program's output: raster images as blobs, text as text, nothing else. */
export function PreviewDialog({
  executionId,
  file,
  onClose,
}: {
  executionId: number;
  file: ResultFile;
  onClose: () => void;
}): JSX.Element {
  const client = useClient();
  const toasts = useToasts();
  const [preview, setPreview] = useState<Preview | null>(null);
  const [url, setUrl] = useState<string | null>(null);
  const [error, setError] = useState<RpcError | null>(null);
  const [broken, setBroken] = useState(false);

  useEffect(() => {
    let wanted = true;
    let made: string | null = null;
    const read = async (): Promise<void> => {
      const isImage = imageType(await readResult(client, file, HEAD_BYTES)) !== null;
      const most = isImage ? MAX_IMAGE_BYTES : MAX_TEXT_BYTES;
      if (isImage && file.size_bytes > most) {
        if (wanted) setPreview({ kind: "none" });
        return;
      }
      const bytes = await readResult(client, file, most);
      const found = previewOf(bytes);
      if (!wanted) return;
      if (found.kind === "image") {
        made = URL.createObjectURL(new Blob([bytes as BlobPart], { type: found.type }));
        setUrl(made);
      }
      setPreview(found);
    };
    read().catch((fault: unknown) => wanted && setError(asRpcError(fault)));
    return () => {
      wanted = false;
      if (made) URL.revokeObjectURL(made);
    };
  }, [client, file]);

  return (
    <Dialog
      title={<span title={file.path}>{file.path}</span>}
      onClose={onClose}
      wide
      footer={
        <>
          <span className="muted small preview__size">
            {format.bytes(file.size_bytes)}
            {preview?.kind === "text" && file.size_bytes > MAX_TEXT_BYTES && `, the first ${format.bytes(MAX_TEXT_BYTES)} are shown`}
          </span>
          <Button
            icon="download"
            onClick={() => downloadResult(client, executionId, file).catch((fault: unknown) => toasts.fail(fault))}
          >
            Download
          </Button>
        </>
      }
    >
      {error ? (
        <ErrorBox error={error} />
      ) : !preview ? (
        <Loading what="Reading the file" />
      ) : preview.kind === "image" && url && !broken ? (
        <img className="preview__image" src={url} alt={`Content of ${file.path}`} onError={() => setBroken(true)} />
      ) : preview.kind === "text" ? (
        preview.text ? (
          <pre className="logs" tabIndex={0} aria-label={`Content of ${file.path}`}>
            {preview.text}
          </pre>
        ) : (
          <Empty title="The file is empty" />
        )
      ) : (
        <Empty title="This file has no preview">
          {broken ? "It begins like an image and is none that can be drawn." : "Text and raster images are shown here; download it to look at it with another program."}
        </Empty>
      )}
    </Dialog>
  );
}
