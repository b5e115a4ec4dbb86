import NIOCore
import Hummingbird
import JWTKit
import CryptoExtras
